// e42: applied, reverted and unloaded again and again, while threads on both cores call the functions and others start
// and end: each call is the old function or the new one, and the memory, the mappings and the descriptors of the
// process stay what they were.
//
// SHUNT_CYCLES=<number> runs so many cycles.
//
// Shown to fail (each guard of lib/ taken out, the test seen to fail, the guard put back):
//   WithCallers…   patch_code.cpp, ask(): true without a question (a crash); Bystanders not cleared with the patch (memory)
//   WithThreads…   question.cpp, ask_whether_free(): returns after the first round (a crash, now and then)
#include <execinfo.h>
#include <signal.h>
#include <sys/time.h>

#include <memory>
#include <vector>

#include "support.hpp"

namespace {

using namespace unload;

long cycles() {
  const char *given = getenv("SHUNT_CYCLES");
  return given != nullptr ? std::strtol(given, nullptr, 0) : 1000;
}

/// Pages that are in memory now, without those of files.
long own_pages() {
  std::ifstream file("/proc/self/statm");
  long size = 0, resident = 0, shared = 0;
  file >> size >> resident >> shared;
  return resident - shared;
}

class Cycles : public testing::Test {
 protected:
  void call_all() {
    for (int n = 0; n < 64; ++n) {
      const int answer = call_quick();
      if (answer != 1 && answer != 2) ++wrong_;
    }
    calls_ += 64;
  }
  void run(long count) {
    for (long k = 0; k < count; ++k) {
      shunt::Patch patch = applied("patch");
      EXPECT_EQ(call_quick(), 2);
      const auto reverted = patch.revert();
      ASSERT_TRUE(reverted) << reverted.error().message();
      const auto gone = patch.wait(kPatient);
      ASSERT_TRUE(gone) << gone.error().message();
    }
  }
  /// With threads that do `work` until the end.
  void run_with(std::size_t threads, const std::function<void()> &work, long count) {
    std::vector<std::unique_ptr<Thread>> all;
    for (std::size_t k = 0; k < threads; ++k)
      all.push_back(std::make_unique<Thread>([&] {
        while (!stop_) work();
        return 0;
      }));
    run(count / 10);
    const auto mappings_before = mappings(), descriptors_before = descriptors();
    const long pages_before = own_pages();
    const int unloaded_before = unloaded;
    run(count);
    EXPECT_EQ(unloaded, unloaded_before + count);
    EXPECT_EQ(descriptors(), descriptors_before);
    EXPECT_EQ(mappings(), mappings_before);
    EXPECT_LT(own_pages() - pages_before, 256) << "pages of memory that were not given back";
    stop_ = true;
    all.clear();
    EXPECT_EQ(wrong_, 0);
    std::printf("%ld cycles, %lu calls\n", count, calls_.load());
  }

  std::atomic<bool> stop_ = false;
  std::atomic<int> wrong_ = 0;
  std::atomic<unsigned long> calls_ = 0;
};

TEST_F(Cycles, WithCallersOnBothCores) {
  run_with(
      2, [this] { call_all(); }, cycles());
}

void take_backtrace(int) {
  void *frames[32];
  backtrace(frames, 32);
}

/// A profiler: each thread walks its stack in a handler, every now and then, while objects come and go.
TEST_F(Cycles, WithBacktracesInHandlers) {
  take_backtrace(0);  // loads what it needs
  struct sigaction action = {}, before = {};
  action.sa_handler = take_backtrace;
  action.sa_flags = SA_RESTART;
  ASSERT_EQ(sigaction(SIGPROF, &action, &before), 0);
  const itimerval often = {{0, 1000}, {0, 1000}}, never = {};
  setitimer(ITIMER_PROF, &often, nullptr);
  run_with(
      2, [this] { call_all(); }, cycles() / 10);
  setitimer(ITIMER_PROF, &never, nullptr);
  sigaction(SIGPROF, &before, nullptr);
}

// e41: a thread storm
TEST_F(Cycles, WithThreadsThatStartAndEnd) {
  run_with(
      2, [this] { std::thread([this] { call_all(); }).join(); }, cycles() / 10);
}

}  // namespace
