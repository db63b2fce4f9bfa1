// lib/threads: which threads there are, where they stand, what their stacks hold.
//
// Shown to fail (each guard taken out, the test seen to fail, the guard put back):
//   ListsEveryThread…       thread_list.cpp, read(): complete after the first pass, whatever the kernel counts (now and then)
//   FindsWhatASignal…       x86_64/context.hpp, is_saved_pc(): false
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "threads/question.hpp"

namespace {

using namespace shunt::core;

constexpr std::uint64_t kNever = ~std::uint64_t{0};

/// A thread that sleeps in read() until it is destroyed.
class Sleeper {
 public:
  explicit Sleeper(bool blocks_signals = false) {
    EXPECT_EQ(pipe2(ends_, O_CLOEXEC), 0);
    thread_ = std::thread([this, blocks_signals] {
      if (blocks_signals) {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, nullptr);
      }
      id_ = sys::thread_id();
      char byte = 0;
      while (read(ends_[0], &byte, 1) < 0) {
      }
    });
    while (id_ == 0 || standing_of(id_).doing != Standing::Doing::asleep) sched_yield();
  }
  ~Sleeper() {
    close(ends_[1]);
    thread_.join();
    close(ends_[0]);
  }
  [[nodiscard]] int id() const { return id_; }

 private:
  int ends_[2] = {-1, -1};
  std::atomic<int> id_ = 0;
  std::thread thread_;
};

TEST(ThreadList, ListsEveryThreadWhileOthersComeAndGo) {
  std::vector<std::unique_ptr<Sleeper>> sleepers;
  for (int k = 0; k < 20; ++k) sleepers.push_back(std::make_unique<Sleeper>());
  std::atomic<bool> stop = false;
  std::vector<std::thread> starters;
  for (int k = 0; k < 2; ++k)
    starters.emplace_back([&stop] {
      while (!stop) std::thread([] {}).join();
    });
  for (int k = 0; k < 200; ++k) {
    ThreadList list;
    ASSERT_EQ(list.read(kNever), ThreadList::Outcome::complete);
    EXPECT_TRUE(std::binary_search(list.ids().begin(), list.ids().end(), sys::thread_id()));
    for (const auto &one : sleepers) EXPECT_TRUE(std::binary_search(list.ids().begin(), list.ids().end(), one->id()));
  }
  stop = true;
  for (std::thread &starter : starters) starter.join();
}

TEST(Standing, TellsWhoSleepsAndWhoIsGone) {
  int id = 0;
  {
    Sleeper sleeper;
    id = sleeper.id();
    const Standing first = standing_of(id), second = standing_of(id);
    EXPECT_EQ(first.doing, Standing::Doing::asleep);
    EXPECT_TRUE(first.in_call);
    EXPECT_NE(first.pc, 0U);
    EXPECT_NE(first.sp, 0U);
    EXPECT_EQ(first.switches, second.switches);
  }
  EXPECT_EQ(standing_of(id).doing, Standing::Doing::gone);
  std::atomic<bool> stop = false;
  std::atomic<int> runner_id = 0;
  std::thread runner([&] {
    runner_id = sys::thread_id();
    while (!stop) {
    }
  });
  while (runner_id == 0) sched_yield();
  EXPECT_EQ(standing_of(runner_id).doing, Standing::Doing::running);
  stop = true;
  runner.join();
}

TEST(Standing, TellsWhichSignalsAreBlocked) {
  Sleeper open, blocking(true);
  std::uint64_t mask = 0;
  ASSERT_TRUE(blocked_signals(open.id(), mask));
  EXPECT_FALSE(blocks(mask, SIGTRAP));
  ASSERT_TRUE(blocked_signals(blocking.id(), mask));
  EXPECT_TRUE(blocks(mask, SIGTRAP));
  EXPECT_TRUE(blocks(mask, SIGRTMAX));
}

class StackTest : public testing::Test {
 protected:
  static constexpr std::uintptr_t kBegin = 0x123456789000;
  static constexpr arch::Boundary kBoundaries[] = {{0, 0}, {1, 1}, {4, 4}, {9, 9}};

  /// What a look at these words finds. They end where memory ends.
  Scan scan(std::initializer_list<std::uintptr_t> words, bool is_returned_to) {
    const CodeRange range = {kBegin + 1, 8, is_returned_to, kBegin, kBegin + 0x1000, kBoundaries};
    const CodeRanges ranges({&range, 1});
    const std::vector<std::uintptr_t> stack(words);
    const auto sp = reinterpret_cast<std::uintptr_t>(stack.data());
    std::uintptr_t buffer[4];  // so that what belongs together is read in two pieces
    return scan_stack(ranges, sp, sp + words.size() * sizeof(std::uintptr_t), buffer, where_);
  }
  std::uintptr_t where_ = 0;
};

TEST_F(StackTest, FindsReturnAddresses) {
  EXPECT_EQ(scan({1, 2, 3, 4, 5, kBegin + 4, 6}, true), Scan::found);
  EXPECT_EQ(where_, kBegin + 4);
  EXPECT_EQ(scan({1, 2, 3, 4, 5, kBegin + 5, 6}, true), Scan::clean) << "no instruction begins there";
  EXPECT_EQ(scan({kBegin, kBegin + 9}, true), Scan::clean) << "not in the way";
  EXPECT_EQ(scan({1, 2, 3, 4, 5, kBegin + 4, 6}, false), Scan::clean) << "nothing returns there";
}

#if defined(__x86_64__)
TEST_F(StackTest, FindsWhatASignalHandlerWillReturnTo) {
  constexpr std::uintptr_t kFlags = 0x246, kSegments = 0x2b000000000033;
  EXPECT_EQ(scan({1, kBegin + 4, kFlags, kSegments}, false), Scan::found);
  EXPECT_EQ(scan({1, 2, kBegin + 4, kFlags, kSegments}, false), Scan::found);
  EXPECT_EQ(scan({1, 2, 3, kBegin + 4, kFlags, kSegments}, false), Scan::found);
  EXPECT_EQ(scan({1, 2, 3, kBegin + 4, kFlags, 0}, false), Scan::clean);
}
#endif

TEST_F(StackTest, MemoryThatIsNotThereIsNoFault) {
  const CodeRanges ranges({});
  std::uintptr_t buffer[4];
  EXPECT_EQ(scan_stack(ranges, 4096, 8192, buffer, where_), Scan::failed);
  Stacks stacks;
  ASSERT_TRUE(stacks.read());
  EXPECT_EQ(stacks.end_of(4096), 0U);
  EXPECT_GT(stacks.end_of(reinterpret_cast<std::uintptr_t>(buffer)), reinterpret_cast<std::uintptr_t>(buffer));
}

TEST(Question, EachThreadPassesOnceAndTheSignalIsGivenBack) {
  Sleeper one, two, deaf(true);
  std::atomic<bool> stop = false;
  std::thread runner([&stop] {
    while (!stop) {
    }
  });
  const CodeRange range = {0x123456789000, 16, false, 0, 0, {}};
  Obstacle obstacle;
  Passing passing;
  {
    Question question;
    ASSERT_TRUE(question.open(0, kNever, obstacle)) << obstacle.why;
    const auto sp = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
    EXPECT_TRUE(question.ask({&range, 1}, sp, kNever, passing, obstacle)) << obstacle.why;
    EXPECT_GE(passing.asleep, 3U);
    EXPECT_LE(passing.asked, 1U);
  }
  for (int signal = SIGRTMIN; signal <= SIGRTMAX; ++signal) {
    struct sigaction found = {};
    ASSERT_EQ(sigaction(signal, nullptr, &found), 0);
    EXPECT_EQ(found.sa_handler, SIG_DFL) << signal;
  }
  stop = true;
  runner.join();
}

}  // namespace
