// Transactions with entries as a whole: all or nothing, threads, exceptions, other tools, unloading, forks, PR_SET_MDWE, patches.
//
// Shown to fail: write() that does not call undo_put_in() when entries_.commit() failed (AThreadInTheWay… finds slots written);
// TrapsAllowed taken out of lib/entry/change.cpp (AThreadThatBlocksEverySignal… is refused); drop_unloaded() taken out of
// settle() (APluginThatWasClosed… finds code_changed or dies); stands() always true in visit_conflicts() and EntryChange::add()
// (AnotherToolsJump… is overwritten); find_unwinder() that answers nothing (AnExceptionPasses… ends the program);
// take_self slots led to redirect.function instead of the original (APatch… never returns).
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <atomic>
#include <thread>

#include "support.hpp"

namespace {

using namespace entries;
using shunt::Code;
using shunt::Reach;

TEST(entries, NothingHasChangedWhicheverRedirectCannotBePlanned) {
  const char *const good[] = {"aside", "one", "hidden"};
  const Bytes before;
  for (int position = 0; position <= 3; ++position) {
    SCOPED_TRACE(position);
    auto transaction = shunt::Transaction::create();
    for (int k = 0; k < 4; ++k) {
      if (k == position) {
        ASSERT_TRUE(transaction->add("tiny", &thousand, {.reach = Reach::entry}));
      }
      if (k < 3) {
        ASSERT_TRUE(transaction->add(good[k], &thousand));
      }
    }
    const auto change = transaction->apply();
    ASSERT_FALSE(change);
    EXPECT_EQ(change.error().code(), Code::entry_refused) << change.error().message();
    expect_as(before);
  }
  EXPECT_EQ(call_one(1), 2);
}

TEST(entries, OneTransactionChangesSlotsAndEntries) {
  const Bytes before;
  auto transaction = shunt::Transaction::create();
  for (const char *symbol : {"aside", "one", "two", "three", "hidden"})
    ASSERT_TRUE(transaction->add(symbol, &thousand));
  auto change = transaction->apply();
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(change->entries(), 4U);
  EXPECT_EQ(change->slots(), static_cast<std::size_t>(plan_of("aside").slots()));
  for (int (*const call)(int) : {aside, call_one, call_two, call_three, call_hidden}) EXPECT_EQ(call(1), 1001);
  for (std::size_t k = 0; k < 4; ++k)
    EXPECT_EQ(reinterpret_cast<int (*)(int)>(change->original(k))(1), 1 + static_cast<int>(k));
  ASSERT_TRUE(change->revert());
  EXPECT_EQ(call_two(1), 3);
  expect_as(before);
}

TEST(entries, TwoRedirectsOfOneEntryInATransactionAreRefused) {
  auto transaction = shunt::Transaction::create();
  ASSERT_TRUE(transaction->add("hidden", &thousand));
  ASSERT_TRUE(transaction->add("game.c:hidden", &two_thousand));
  const auto change = transaction->apply();
  ASSERT_FALSE(change);
  EXPECT_EQ(change.error().code(), Code::invalid_argument) << change.error().message();
}

// ---- threads

/// A thread that sits in waits() until it is let go: it will return to the bytes that change.
class Sitting {
 public:
  Sitting() {
    EXPECT_EQ(pipe(pipe_), 0);
    thread_ = std::thread([this] {
      id_ = static_cast<int>(syscall(SYS_gettid));
      got_ = call_waits(pipe_[0]);
    });
    const std::string path = "/proc/self/task/" + std::to_string(wait_for_id()) + "/syscall";
    for (std::string text; text.rfind("0 ", 0) != 0; sched_yield()) {  // read()
      std::ifstream file(path);
      std::getline(file, text);
    }
  }
  ~Sitting() { let_go(); }
  int let_go() {
    if (!thread_.joinable()) return got_;
    EXPECT_EQ(write(pipe_[1], "A", 1), 1);
    thread_.join();
    close(pipe_[0]);
    close(pipe_[1]);
    return got_;
  }
  [[nodiscard]] int id() const { return id_; }

 private:
  int wait_for_id() {
    while (id_ == 0) sched_yield();
    return id_;
  }
  int pipe_[2] = {-1, -1}, got_ = 0;
  std::atomic<int> id_ = 0;
  std::thread thread_;
};

TEST(entries, AThreadInTheWayIsNamedAndNothingHasChanged) {
  Sitting sitting;
  const Bytes before;
  for (int position = 0; position < 3; ++position) {
    auto transaction = shunt::Transaction::create();
    const char *const good[] = {"inner", "aside"};
    void *original = &sitting;
    for (int k = 0; k < 3; ++k) {
      if (k == position) {
        ASSERT_TRUE(transaction->add("waits", &thousand));
      }
      if (k < 2) {
        ASSERT_TRUE(transaction->add(good[k], &thousand, {.original = &original}));
      }
    }
    const auto change = transaction->apply();
    ASSERT_FALSE(change);
    EXPECT_EQ(change.error().code(), Code::thread_in_the_way);
    const std::string message = change.error().message();
    EXPECT_TRUE(says(message, "thread " + std::to_string(sitting.id()))) << message;
    EXPECT_NE(change.error().address(), 0U);
    EXPECT_EQ(original, &sitting);
    expect_as(before);
  }
  EXPECT_EQ(sitting.let_go(), 'A');
  const auto change = shunt::redirect("waits", &thousand);
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(call_waits(1), 1001);
}

TEST(entries, AThreadThatBlocksEverySignalCanApply) {
  std::thread([] {
    sigset_t all, after;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
    auto change = shunt::redirect("one", &thousand);
    ASSERT_TRUE(change) << change.error().message();
    EXPECT_EQ(call_one(1), 1001);
    ASSERT_TRUE(change->revert());
    pthread_sigmask(SIG_SETMASK, nullptr, &after);
    EXPECT_EQ(sigismember(&after, SIGTRAP), 1) << "its mask is what it was";
  }).join();
}

TEST(entries, CallersAllTheWhileGetTheOneOrTheOther) {
  std::atomic<bool> is_over = false;
  std::atomic<long> wrong = 0, calls = 0;
  std::vector<std::thread> threads;
  for (int k = 0; k < 4; ++k)
    threads.emplace_back([&] {
      while (!is_over) {
        const int got = call_inner(1), other = inner_from_caller(1);
        if ((got != 1 && got != 1001) || (other != 1 && other != 1001)) ++wrong;
        ++calls;
      }
    });
  for (int k = 0; k < 50; ++k) {
    auto change = shunt::redirect("inner", &thousand);
    ASSERT_TRUE(change) << change.error().message();
    EXPECT_EQ(change->entries(), 1U);
    ASSERT_TRUE(change->revert());
  }
  is_over = true;
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(wrong, 0) << "of " << calls;
}

// ---- exceptions

int (*original_throws)(int);
int passes_on(int x) { return 1 + original_throws(x); }

TEST(entries, AnExceptionPassesThroughTheTrampoline) {
  void *original = nullptr;
  const auto change = shunt::redirect("throws", &passes_on, {.original = &original});
  ASSERT_TRUE(change) << change.error().message();
  ASSERT_EQ(change->entries(), 1U);
  original_throws = reinterpret_cast<int (*)(int)>(original);
  EXPECT_EQ(call_throws(1), 2);
  try {
    call_throws(-5);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const int thrown) {
    EXPECT_EQ(thrown, -5);
  }
}

// ---- others

TEST(entries, AnotherToolsJumpIsCountedAndLeft) {
  in_child([] {
    auto change = shunt::redirect("two", &thousand);
    ASSERT_TRUE(change) << change.error().message();
    EXPECT_EQ(change->conflicts(), 0U);
    // Another tool: its own jump, over ours.
    char theirs[] = {'\xb8', 77, 0, 0, 0, '\xc3'};
    const auto entry = reinterpret_cast<std::uintptr_t>(address_of("two"));
    const int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    ASSERT_EQ(pwrite(memory, theirs, sizeof theirs, static_cast<off_t>(entry)), static_cast<ssize_t>(sizeof theirs));
    EXPECT_EQ(call_two(1), 77);
    EXPECT_EQ(change->conflicts(), 1U);
    EXPECT_TRUE(change->revert());
    EXPECT_EQ(change->conflicts(), 1U);
    EXPECT_EQ(call_two(1), 77);
    // A layer below it is not harmed either.
    const auto again = shunt::redirect("two", &two_thousand, {.reach = Reach::entry});
    ASSERT_TRUE(again) << again.error().message();
    EXPECT_EQ(call_two(1), 2001);
    EXPECT_EQ(again->original()(1), 77);
  });
}

TEST(entries, APluginThatWasClosedTakesItsEntryWithIt) {
  void *plugin = dlopen(std::getenv("PLUGIN"), RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(plugin, nullptr) << dlerror();
  auto change = shunt::redirect("in_plugin", &thousand);
  ASSERT_TRUE(change) << change.error().message();
  auto call = reinterpret_cast<int (*)(int)>(dlsym(plugin, "call_in_plugin"));
  EXPECT_EQ(call(1), 1001);
  ASSERT_EQ(dlclose(plugin), 0);
  EXPECT_EQ(dlopen(std::getenv("PLUGIN"), RTLD_NOW | RTLD_NOLOAD), nullptr) << "shunt keeps it";

  plugin = dlopen(std::getenv("PLUGIN"), RTLD_NOW | RTLD_LOCAL);
  call = reinterpret_cast<int (*)(int)>(dlsym(plugin, "call_in_plugin"));
  EXPECT_EQ(call(1), 1) << "another loading of it";
  auto another = shunt::redirect("in_plugin", &two_thousand);
  ASSERT_TRUE(another) << another.error().message();
  EXPECT_EQ(change->entries(), 0U);
  EXPECT_EQ(call(1), 2001);
  EXPECT_TRUE(change->revert());
  EXPECT_EQ(change->conflicts(), 0U);
  EXPECT_EQ(call(1), 2001);
  ASSERT_TRUE(another->revert());
  EXPECT_EQ(call(1), 1);
  ASSERT_EQ(dlclose(plugin), 0);
}

TEST(entries, AForkedChildHasThemAndIsOnItsOwn) {
  auto change = shunt::redirect("three", &thousand);
  ASSERT_TRUE(change) << change.error().message();
  in_child([&] {
    EXPECT_EQ(call_three(1), 1001);
    ASSERT_TRUE(change->revert());
    EXPECT_EQ(call_three(1), 4);
    const auto own = shunt::redirect("one", &two_thousand);
    ASSERT_TRUE(own) << own.error().message();
    EXPECT_EQ(call_one(1), 2001);
  });
  EXPECT_EQ(call_three(1), 1001);
  EXPECT_EQ(call_one(1), 2);
}

TEST(entries, WorksWhereNoMappingMayBecomeExecutable) {
  constexpr int kSetMdwe = 65, kGetMdwe = 66, kRefuseExecGain = 1;
  if (prctl(kGetMdwe, 0, 0, 0, 0) < 0) GTEST_SKIP() << "this kernel has no PR_SET_MDWE";
  in_child([] {
    ASSERT_EQ(prctl(kSetMdwe, kRefuseExecGain, 0, 0, 0), 0);
    const Bytes before;
    auto change = shunt::redirect("inner", &thousand);
    ASSERT_TRUE(change) << change.error().message();
    EXPECT_EQ(call_inner(1), 1001);
    EXPECT_EQ(change->original()(1), 1);
    ASSERT_TRUE(change->revert());
    expect_as(before);
  });
}

TEST(entries, APatchReplacesStaticFunctionsAndReachesItsOriginals) {
  const Bytes before;
  auto patch = shunt::Patch::load(std::getenv("PATCH"));
  ASSERT_TRUE(patch) << patch.error().message();
  const auto plan = patch->plan();
  ASSERT_TRUE(plan) << plan.error().message();
  EXPECT_TRUE(says(plan->coverage(), "hidden: its entry, defined by ")) << plan->coverage();
  ASSERT_TRUE(patch->apply());
  EXPECT_EQ(patch->entries(), 2U);
  EXPECT_EQ(call_hidden(1), 1001);
  EXPECT_EQ(call_inner(1), 2001);
  EXPECT_EQ(inner(1), 2001);
  {
    const auto over = shunt::redirect("inner", &thousand);
    ASSERT_TRUE(over) << over.error().message();
    EXPECT_EQ(call_inner(1), 1001);
    EXPECT_EQ(over->original()(1), 2001);
  }
  EXPECT_EQ(call_inner(1), 2001);
  ASSERT_TRUE(patch->revert());
  EXPECT_EQ(call_hidden(1), 1);
  EXPECT_EQ(call_inner(1), 1);
  expect_as(before);
}

}  // namespace
