// e21: entries are redirected and reverted again and again while threads on every core call the functions, and others start and
// end: each call is the old function or the new one, nothing else, and the memory of the process stays what it was.
//
// What is random follows from a seed, which is printed; SHUNT_SEED=<seed> repeats a run. SHUNT_CYCLES=<number> runs so many cycles: each is
// one function that is redirected and reverted, several of them in one transaction.
//
// Shown to fail (each guard of lib/ taken out, the test seen to fail, the guard put back):
//   all   change.cpp, add(): arms is always false (a crash); question.cpp, check(): does not move (a crash)
#if defined(__x86_64__)
#include <sched.h>

#include <cstdio>
#include <cstdlib>

#include <atomic>
#include <random>
#include <thread>

#include "../../unit/entry_code.hpp"
#include "arch/native_code.hpp"

namespace {

using namespace shunt::core;
using namespace unit;

long number_in(const char *variable, long otherwise) {
  const char *given = std::getenv(variable);
  return given != nullptr ? std::strtol(given, nullptr, 0) : otherwise;
}

/// Pages that are in memory now, without those of files.
long own_pages() {
  long size = 0, resident = 0, shared = 0;
  std::FILE *file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  EXPECT_EQ(std::fscanf(file, "%ld %ld %ld", &size, &resident, &shared), 3);
  std::fclose(file);
  return resident - shared;
}

long count_mappings() {
  std::FILE *file = std::fopen("/proc/self/maps", "r");
  long lines = 0;
  for (int c = 0; file != nullptr && (c = std::fgetc(file)) != EOF;) lines += c == '\n' ? 1 : 0;
  if (file != nullptr) std::fclose(file);
  return lines;
}

class EntryCycles : public testing::Test {
 protected:
  static constexpr std::size_t kFunctions = 6, kPage = 4096;

  void SetUp() override {
    if (!arch::NativeCode::ready()) GTEST_SKIP() << "libZydis.so.4.0 is not installed";
    const auto seed = static_cast<unsigned>(number_in("SHUNT_SEED", static_cast<long>(std::random_device()())));
    std::printf("SHUNT_SEED=%u\n", seed);
    random_.seed(seed);
    // In the middle of a cache line, across two of them and across two pages, at each of the first instructions; in padding.
    const std::size_t places[kFunctions] = {0x100, 0x1fe, 0x2fd, 2 * kPage - 1, 3 * kPage - 3, 0x400};
    for (std::size_t k = 0; k < kFunctions; ++k) {
      Bytes code = framed(1);
      if (k + 1 == kFunctions) code = {0x90, 0x90, 0x90, 0x90, 0x90, 0x66, 0x90, 0xb8, 1, 0, 0, 0, 0xc3};
      const std::size_t before = k + 1 == kFunctions ? 5 : 0;
      functions_[k] = pages_.put(places[k], code) + before;
      Problem problem;
      targets_[k] = target_of(functions_[k], code.size() - before, before);
      ASSERT_TRUE(entries_.prepare(targets_[k], ids_[k], problem)) << problem.message;
      ASSERT_TRUE(entries_.write_trampolines(problem)) << problem.message;
    }
  }

  /// `callers` threads that call the functions, `starters` that start and end others which do.
  void run(std::size_t callers, std::size_t starters, long cycles) {
    std::vector<std::thread> threads;
    for (std::size_t k = 0; k < callers; ++k)
      threads.emplace_back([this, k] {
        while (!stop_) {
          for (int n = 0; n < 32; ++n) call_all(k);
          if (k % 2 == 0) sched_yield();  // the others are interrupted anywhere
        }
      });
    for (std::size_t k = 0; k < starters; ++k)
      threads.emplace_back([this, k] {
        while (!stop_) std::thread([this, k] { call_all(k); }).join();
      });
    cycle(std::min(cycles, 200L));
    const long pages_before = own_pages(), mappings_before = count_mappings();
    cycle(cycles);
    EXPECT_LT(own_pages() - pages_before, 256) << "pages of memory that were not given back";
    EXPECT_LT(count_mappings() - mappings_before, 32);
    stop_ = true;
    for (std::thread &thread : threads) thread.join();
    EXPECT_EQ(wrong_, 0);
    EXPECT_GT(calls_, 0U);
    EXPECT_TRUE(pages_.is_as_put());
    EXPECT_EQ(entries_.pages_away(), 0U);
    std::printf(
        "%lu calls, %lu of them through breakpoints; threads: %lu asleep, %lu asked, %lu moved; longest hold %lu us\n",
        calls_.load(), trapped_, asleep_, asked_, moved_, longest_hold_ns_ / 1000);
  }

 private:
  void call_all(std::size_t first) {
    for (std::size_t n = 0; n < 64; ++n) {
      const int answer = call(functions_[(first + n) % kFunctions]);
      if (answer != 1 && answer != 2 && answer != 3) ++wrong_;
    }
    calls_ += 64;
  }

  void cycle(long count) {
    for (long done = 0; done < count && !HasFatalFailure();) {
      // Some of them, at once.
      std::vector<EntryStep> steps;
      for (const EntryId id : ids_)
        if (random_() % 2 == 0) steps.push_back({id, random_() % 2 == 0 ? new_function_ : newer_function_});
      lead(steps);
      done += static_cast<long>(steps.size());
      for (const EntryStep &step : steps) EXPECT_EQ(call(functions_[step.entry]), step.target == new_function_ ? 2 : 3);
      if (random_() % 4 == 0) {
        for (EntryStep &step : steps) step.target = newer_function_;
        lead(steps);
      }
      for (EntryStep &step : steps) step.target = 0;
      lead(steps);
      for (const EntryStep &step : steps) EXPECT_EQ(call(functions_[step.entry]), 1);
    }
  }

  void lead(std::vector<EntryStep> &steps) {
    EntryReport report;
    Problem problem;
    ASSERT_TRUE(entries_.commit(steps, kPatient * 10, report, problem)) << problem.message;
    EXPECT_EQ(report.conflicts, 0U);
    trapped_ += report.trapped;
    asleep_ += report.passing.asleep;
    asked_ += report.passing.asked;
    moved_ += report.passing.moved;
    longest_hold_ns_ = std::max(longest_hold_ns_, report.passing.longest_hold_ns);
  }

  CodePages pages_{4};
  const std::uintptr_t new_function_ = pages_.put(3 * kPage + 0x800, plain(2)),
                       newer_function_ = pages_.put(3 * kPage + 0x900, plain(3));
  Entries entries_;
  std::uintptr_t functions_[kFunctions] = {};
  EntryTarget targets_[kFunctions];
  EntryId ids_[kFunctions] = {};
  std::mt19937 random_;
  std::atomic<bool> stop_ = false;
  std::atomic<int> wrong_ = 0;
  std::atomic<std::uint64_t> calls_ = 0;
  std::uint64_t trapped_ = 0, asleep_ = 0, asked_ = 0, moved_ = 0, longest_hold_ns_ = 0;
};

TEST_F(EntryCycles, WithCallersOnEveryCore) {
  run(std::max(1U, std::thread::hardware_concurrency()), 0, number_in("SHUNT_CYCLES", 10'000));
}

TEST_F(EntryCycles, WithThreadsThatStartAndEnd) { run(1, 2, number_in("SHUNT_CYCLES", 10'000) / 50); }

}  // namespace
#endif
