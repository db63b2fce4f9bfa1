// e40: children that are forked at any moment of a transaction find it whole or not begun, and can go on by themselves; vfork, exec and
// posix_spawn beside transactions are as without them.
//
// Two functions are redirected in one transaction, so a child that sees one of them redirected and the other not has found half of it.
//
// The first call of shunt is made before there are threads, as shunt.h asks for.
//
// Shown to fail:
//   engine.cpp, Engine(): no before_fork()      ChildrenAreWholeAndOnTheirOwn finds halves, and hangs (the alarm)
//   engine.cpp, Engine(): no after_fork_in_child()  ChildrenAreWholeAndOnTheirOwn hangs
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <shunt/shunt.hpp>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

extern "C" {
int e40_call_answer();
int e40_call_other();
}

namespace {

int two() { return 2; }
int three() { return 3; }

shunt::Options slots() { return {.callers = {"libe40_caller.so"}, .reach = shunt::Reach::slots}; }
shunt::Options entry() { return {.reach = shunt::Reach::entry}; }

shunt::Result<shunt::Change> redirect_both(int (*replacement)(), const shunt::Options &options) {
  auto transaction = shunt::Transaction::create();
  if (!transaction) return transaction.error();
  for (const char *symbol : {"e40_answer", "e40_other"})
    if (const auto added = transaction->add(symbol, replacement, options); !added) return added.error();
  return transaction->apply();
}

/// 0, or which of the steps went wrong. Runs in the child of a process with many threads, so it says nothing.
int use_shunt_in_child(const shunt::Options &options) {
  const int answer = e40_call_answer();
  if (answer != e40_call_other()) return 1;
  if (answer != 1 && answer != 2) return 2;
  auto own = redirect_both(&three, options);
  if (!own) return 3;
  if (e40_call_answer() != 3 || e40_call_other() != 3) return 4;
  if (own->conflicts() != 0) return 5;
  if (!own->revert()) return 6;
  return e40_call_answer() == answer && e40_call_other() == answer ? 0 : 7;
}

int status_of(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

/// Applies and reverts on this thread for as long as `beside` runs on others, at least so often.
void with_transactions(const shunt::Options &options, int rounds, int threads, const std::function<void()> &beside) {
  alarm(150);
  ASSERT_TRUE(redirect_both(&two, options));
  std::atomic<bool> stop = false;
  std::atomic<long> done = 0;
  std::vector<std::thread> others;
  for (int k = 0; k < threads; ++k)
    others.emplace_back([&] {
      while (!stop) {
        beside();
        ++done;
      }
    });
  for (int k = 0; k < rounds || done < rounds; ++k) {
    auto change = redirect_both(&two, options);
    ASSERT_TRUE(change) << change.error().message();
    EXPECT_EQ(e40_call_answer() + e40_call_other(), 4);
    const auto reverted = change->revert();
    ASSERT_TRUE(reverted) << reverted.error().message();
    EXPECT_EQ(e40_call_answer() + e40_call_other(), 2);
    EXPECT_EQ(change->conflicts(), 0U);
  }
  stop = true;
  for (std::thread &one : others) one.join();
  alarm(0);
}

class Fork : public testing::TestWithParam<const char *> {
 protected:
  [[nodiscard]] static shunt::Options options() { return std::strcmp(GetParam(), "slots") == 0 ? slots() : entry(); }
};
INSTANTIATE_TEST_SUITE_P(e40, Fork, testing::Values("slots", "entry"), [](const auto &of) { return of.param; });

TEST_P(Fork, ChildrenAreWholeAndOnTheirOwn) {
  with_transactions(options(), 100, 2, [] {
    const pid_t child = fork();
    ASSERT_NE(child, -1);
    if (child == 0) {
      alarm(60);
      _exit(use_shunt_in_child(options()));
    }
    ASSERT_EQ(status_of(child), 0);
  });
}

TEST_P(Fork, GrandchildrenAreToo) {
  with_transactions(options(), 30, 1, [] {
    const pid_t child = fork();
    ASSERT_NE(child, -1);
    if (child == 0) {
      alarm(60);
      auto own = redirect_both(&two, options());
      const pid_t grandchild = own ? fork() : -1;
      if (grandchild == 0) _exit(use_shunt_in_child(options()));
      _exit(grandchild > 0 ? WEXITSTATUS(status_of(grandchild)) : 100);
    }
    ASSERT_EQ(status_of(child), 0);
  });
}

/// The child borrows the memory and runs while the other threads of its parent go on changing it.
TEST_P(Fork, VforkAndExec) {
  with_transactions(options(), 100, 2, [] {
    const pid_t child = vfork();
    ASSERT_NE(child, -1);
    if (child == 0) {
      execl("/bin/true", "true", nullptr);
      _exit(127);
    }
    ASSERT_EQ(status_of(child), 0);
  });
}

TEST_P(Fork, Spawn) {
  with_transactions(options(), 100, 2, [] {
    pid_t child = 0;
    char name[] = "true";
    char *arguments[] = {name, nullptr};
    ASSERT_EQ(posix_spawn(&child, "/bin/true", nullptr, nullptr, arguments, environ), 0);
    ASSERT_EQ(status_of(child), 0);
  });
}

/// exec in the middle of another thread's transaction: the program that comes has nothing of it.
TEST_P(Fork, ExecEndsATransactionWithTheProgram) {
  for (int k = 0; k < 30; ++k) {
    const pid_t child = fork();
    ASSERT_NE(child, -1);
    if (child == 0) {
      alarm(60);
      std::atomic<int> rounds = 0;
      std::thread applies([&] {
        for (;; ++rounds)
          if (!redirect_both(&two, options())) _exit(100);
      });
      while (rounds < 2) std::this_thread::yield();
      execl("/bin/true", "true", nullptr);
      _exit(127);
    }
    ASSERT_EQ(status_of(child), 0);
  }
}

/// A replacement of fork() itself that applies: the handlers must not find the engine held by another.
int times_forked = 0;
TEST(e40, AReplacementOfForkIsCalledLikeAnyOther) {
  static void *original = nullptr;
  pid_t (*const counting)() = [] {
    ++times_forked;
    auto own = redirect_both(&two, slots());
    return reinterpret_cast<pid_t (*)()>(__atomic_load_n(&original, __ATOMIC_ACQUIRE))();
  };
  auto change = shunt::redirect("fork", counting, {.original = &original, .reach = shunt::Reach::slots});
  ASSERT_TRUE(change) << change.error().message();
  const pid_t child = fork();
  ASSERT_NE(child, -1);
  if (child == 0) {
    alarm(60);
    _exit(use_shunt_in_child(slots()));
  }
  EXPECT_EQ(status_of(child), 0);
  EXPECT_EQ(times_forked, 1);
}

}  // namespace
