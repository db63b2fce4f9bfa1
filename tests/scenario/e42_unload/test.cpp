// e42: a patch is reverted while threads sleep inside its code, inside the code that it replaced, or on stacks that
// nobody knows. It is unloaded when nobody holds an address in it any more, and never before; what cannot be unloaded
// is kept, and it is said why.
//
// Shown to fail (each guard of lib/ taken out, the test seen to fail, the guard put back): see at each test.
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "../child.hpp"
#include "../other_tool.hpp"
#include "support.hpp"

int unloaded = 0;
void (*at_unload)() = nullptr;

namespace {

using namespace unload;
using shunt::Code;
using shunt::Patch;

/// Not on the caller's stack, which counts.
[[gnu::noinline]] bool has_symbol(const Patch &patch) { return patch.symbol("quick") != nullptr; }

// registry.cpp, revert(): drain() not called. patch_code.cpp, unload(): dlclose() not called.
TEST(Unload, LeavesNothingBehind) {
  { const Patch first = applied("patch"); }  // what is loaded once and for all, is
  const auto mappings_before = mappings(), descriptors_before = descriptors();
  const int unloaded_before = unloaded;
  Patch patch = applied("patch");
  EXPECT_EQ(call_quick(), 2);
  EXPECT_GT(mappings_of("patch"), 0U);
  EXPECT_TRUE(has_symbol(patch));

  ASSERT_TRUE(patch.revert());
  const auto gone = patch.wait(kPatient);

  ASSERT_TRUE(gone) << gone.error().message();
  EXPECT_EQ(call_quick(), 1);
  EXPECT_EQ(unloaded, unloaded_before + 1) << "its destructor";
  EXPECT_EQ(mappings(), mappings_before);
  EXPECT_EQ(descriptors(), descriptors_before);
  EXPECT_FALSE(has_symbol(patch));
  EXPECT_EQ(patch.draining().code, SHUNT_CODE_UNLOADED);
  const auto again = patch.apply();
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), Code::wrong_state) << again.error().message();
}

// question.cpp, look_whether_it_holds_nothing(): passes who is asleep (a crash).
TEST(Unload, WaitsForAThreadInTheNewCode) {
  Patch patch = applied("patch");
  Gate gate;
  Thread thread([&] { return call_slow(gate.fd()); });
  thread.wait_until_in(SYS_read, gate.fd());

  ASSERT_TRUE(patch.revert());

  EXPECT_EQ(call_quick(), 1) << "reverted all the same";
  const shunt_draining draining = patch.draining();
  EXPECT_EQ(draining.code, SHUNT_CODE_DRAINING);
  EXPECT_TRUE(is_in_the_way(draining, thread.id())) << draining.text;
  EXPECT_NE(std::string(draining.text).find(std::to_string(thread.id()) + " (asleep in read)"), std::string::npos)
      << draining.text;
  const auto late = patch.wait(milliseconds(100));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code(), Code::thread_in_the_way) << late.error().message();
  EXPECT_GT(mappings_of("patch"), 0U);
  EXPECT_FALSE(has_symbol(patch)) << "nobody is given an address now";
  gate.open();
  const auto gone = patch.wait(kPatient);
  EXPECT_TRUE(gone) << gone.error().message();
  EXPECT_EQ(thread.join(), 2);
  EXPECT_EQ(mappings_of("patch"), 0U);
}

// patch_code.cpp: note_sleepers() not called (it is asked, and does not notice it: then `asked` must be looked at).
TEST(Unload, DoesNotWaitForAThreadInTheOldCode) {
  Gate gate;
  Thread thread([&] { return call_slow(gate.fd()); });
  thread.wait_until_in(SYS_read, gate.fd());
  Patch patch = applied("patch");
  ASSERT_TRUE(patch.revert());
  const auto gone = patch.wait(kPatient);
  EXPECT_TRUE(gone) << gone.error().message();
  gate.open();
  EXPECT_EQ(thread.join(), 1);
}

// stacks.cpp, scan_stack(): answers clean (a crash).
TEST(Unload, WaitsForAThreadInAnOriginalThatWillReturnToTheNewCode) {
  Patch patch = applied("patch");
  Gate gate;
  Thread thread([&] { return call_through(gate.fd()); });
  thread.wait_until_in(SYS_read, gate.fd());
  ASSERT_TRUE(patch.revert());
  EXPECT_TRUE(is_in_the_way(patch.draining(), thread.id())) << patch.draining().text;
  gate.open();
  const auto gone = patch.wait(kPatient);
  EXPECT_TRUE(gone) << gone.error().message();
  EXPECT_GT(thread.join(), 10);
}

// board.cpp, look_whether_it_holds_nothing(): registers not looked at (a crash, where the compiler keeps it in one).
TEST(Unload, WaitsForAThreadThatHasTheAddressOfAReplacement) {
  Patch patch = applied("patch");
  Gate gate;
  Thread thread([&] { return call_quick_for_each_x(gate.fd()); });
  gate.open();
  thread.wait_until_in(SYS_read, gate.fd());
  ASSERT_TRUE(patch.revert());
  EXPECT_TRUE(is_in_the_way(patch.draining(), thread.id())) << patch.draining().text;
  EXPECT_FALSE(patch.wait(milliseconds(20)));
  gate.open();  // it calls the replacement still
  EXPECT_FALSE(patch.wait(milliseconds(20)));
  gate.open('.');
  EXPECT_EQ(thread.join(), 4);
  const auto gone = patch.wait(kPatient);
  EXPECT_TRUE(gone) << gone.error().message();
}

const Gate *handler_gate = nullptr;
std::atomic<int> handler_answer = 0;

// board.cpp: the stack that was left, or the alternate one, not looked at.
TEST(Unload, WaitsForAThreadInAHandlerOnAnAlternateStack) {
  struct sigaction action = {}, before = {};
  action.sa_handler = [](int) { handler_answer = call_slow(handler_gate->fd()); };
  action.sa_flags = SA_ONSTACK;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  Patch patch = applied("patch");
  Gate gate;
  handler_gate = &gate;
  Thread thread([] {
    std::vector<char> memory(65536);
    const stack_t stack = {memory.data(), 0, memory.size()}, none = {nullptr, SS_DISABLE, 0};
    sigaltstack(&stack, nullptr);
    raise(SIGUSR1);
    sigaltstack(&none, nullptr);
    return handler_answer.load();
  });
  thread.wait_until_in(SYS_read, gate.fd());
  ASSERT_TRUE(patch.revert());
  EXPECT_TRUE(is_in_the_way(patch.draining(), thread.id())) << patch.draining().text;
  gate.open();
  const auto gone = patch.wait(kPatient);
  EXPECT_TRUE(gone) << gone.error().message();
  EXPECT_EQ(thread.join(), 2);
  sigaction(SIGUSR1, &before, nullptr);
}

// ---- coroutines: each in a process of its own, since what is known of them is known for ever

template <class Function>
Function *of_coroutine(const char *name) {
  void *const library = dlopen(built("e42_coroutine").c_str(), RTLD_NOW);
  EXPECT_NE(library, nullptr) << dlerror();
  return library != nullptr ? reinterpret_cast<Function *>(dlsym(library, name)) : nullptr;
}

void expect_kept_for_coroutines(Patch &patch) {
  EXPECT_EQ(patch.draining().code, SHUNT_CODE_KEPT);
  EXPECT_NE(std::string(patch.draining().text).find("coroutines"), std::string::npos) << patch.draining().text;
  const auto kept = patch.wait(kPatient);
  ASSERT_FALSE(kept);
  EXPECT_EQ(kept.error().code(), Code::patch_kept) << kept.error().message();
  EXPECT_GT(mappings_of("patch"), 0U);
}

// patch_code.cpp: has_coroutines stays false; look_for_coroutines() not called and has_seen_coroutine() not asked (a
// crash).
TEST(Unload, KeepsAPatchThatACoroutineRunsIn) {
  in_child([] {
    const auto sleep_in_ask = of_coroutine<int(int, char *, unsigned long)>("sleep_in_ask");
    Patch patch = applied("patch");
    Gate gate;
    Thread thread([&] {
      std::vector<char> stack(std::size_t{256} << 10);
      return sleep_in_ask(gate.fd(), stack.data(), stack.size());
    });
    thread.wait_until_in(SYS_read, gate.fd());
    ASSERT_TRUE(patch.revert());
    expect_kept_for_coroutines(patch);
    gate.open();
    EXPECT_EQ(thread.join(), 21);
    EXPECT_TRUE(patch.apply()) << "it is all there";
  });
}

// patch_code.cpp, look_for_coroutines() not called (a crash).
TEST(Unload, KeepsAPatchThatACoroutineIsSuspendedIn) {
  in_child([] {
    const auto suspend_in_ask = of_coroutine<void(char *, unsigned long)>("suspend_in_ask");
    const auto resume = of_coroutine<int()>("resume");
    Patch patch = applied("patch");
    std::vector<char> stack(std::size_t{256} << 10);
    suspend_in_ask(stack.data(), stack.size());
    ASSERT_TRUE(patch.revert());
    expect_kept_for_coroutines(patch);
    EXPECT_EQ(resume(), 21);
  });
}

// ---- what is kept

// registry.cpp, leave(): keeps_code or why_kept() not asked.
TEST(Unload, KeepsWhatItWasAskedToKeep) {
  Patch patch = applied("patch", {.keep = true});
  ASSERT_TRUE(patch.revert());
  const auto kept = patch.wait(kAtOnce);
  ASSERT_FALSE(kept);
  EXPECT_EQ(kept.error().code(), Code::patch_kept) << kept.error().message();
  EXPECT_TRUE(has_symbol(patch));
  EXPECT_TRUE(patch.apply());
  EXPECT_EQ(call_quick(), 2);
}

int answers_seven() { return 7; }

TEST(Unload, KeepsWhatAnotherToolMayCall) {
  Patch patch = load("patch");
  const auto plan = patch.plan();
  ASSERT_TRUE(plan);
  std::size_t k = 0;
  while (k < static_cast<std::size_t>(plan->slots()) &&
         std::string(plan->slot(k).caller).find("caller") == std::string::npos)
    ++k;
  const shunt_slot_info slot =
      plan->slot(k);  // in a page that the dynamic linker made read-only, as that tool leaves it
  ASSERT_TRUE(patch.apply());
  other_tool::write(slot.address, reinterpret_cast<std::uintptr_t>(&answers_seven));
  ASSERT_TRUE(patch.revert());
  EXPECT_EQ(patch.draining().code, SHUNT_CODE_KEPT);
  EXPECT_NE(std::string(patch.draining().text).find("others have changed"), std::string::npos) << patch.draining().text;
  other_tool::write(slot.address, slot.value);
}

TEST(Unload, KeepsWhatTheDynamicLinkerKeepsAndSaysWhy) {
  const std::pair<const char *, const char *> expected[] = {
      {"nodelete", "-z nodelete"}, {"unique", "unique symbols"}, {"thread_local", "thread-local"}};
  for (const auto &[name, why] : expected) {
    SCOPED_TRACE(name);
    Patch patch = applied(name);
    EXPECT_EQ(call_quick(), 2);
    ASSERT_TRUE(patch.revert());
    const auto kept = patch.wait(kPatient);
    ASSERT_FALSE(kept);
    EXPECT_EQ(kept.error().code(), Code::patch_kept);
    EXPECT_NE(std::string(kept.error().message()).find(why), std::string::npos) << kept.error().message();
    EXPECT_GT(mappings_of(name), 0U);
  }
}

// ---- what becomes of it meanwhile

// registry.cpp, apply(): end_draining() not called.
TEST(Unload, IsGivenUpWhenThePatchIsAppliedAgain) {
  Patch patch = applied("patch");
  Gate gate;
  Thread thread([&] { return call_slow(gate.fd()); });
  thread.wait_until_in(SYS_read, gate.fd());
  ASSERT_TRUE(patch.revert());
  ASSERT_EQ(patch.draining().code, SHUNT_CODE_DRAINING);

  const auto again = patch.apply();

  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(call_quick(), 2);
  EXPECT_EQ(patch.draining().code, SHUNT_CODE_IN_PLACE);
  gate.open();
  EXPECT_EQ(thread.join(), 2);
  EXPECT_EQ(patch.draining().code, SHUNT_CODE_IN_PLACE);
  EXPECT_GT(mappings_of("patch"), 0U);
  ASSERT_TRUE(patch.revert());
  EXPECT_TRUE(patch.wait(kPatient));
}

// registry.cpp: draining_ holds the code weakly.
TEST(Unload, GoesOnWhenTheHandleIsFreed) {
  int unloaded_before = 0;
  Gate second;
  std::unique_ptr<Thread> inside;
  {
    Patch patch = applied("patch");
    inside = std::make_unique<Thread>([&] { return call_slow(second.fd()); });
    inside->wait_until_in(SYS_read, second.fd());
    ASSERT_TRUE(patch.revert());
    unloaded_before = unloaded;
  }
  EXPECT_GT(mappings_of("patch"), 0U);
  second.open();
  EXPECT_EQ(inside->join(), 2);
  Patch other = load("patch");
  while (unloaded == unloaded_before) static_cast<void>(other.draining());  // any call into shunt looks
}

// engine.cpp, commit_prepared(): life not looked at (a crash). end_life(): no redirect looked for.
TEST(Unload, APlanOfThePatchIsTold) {
  auto patch = load("patch");
  const auto plan = patch.plan();
  ASSERT_TRUE(plan);
  const int unloaded_before = unloaded;
  const Patch other = load("patch");
  {
    auto change = plan->commit();
    ASSERT_TRUE(change) << change.error().message();
    { const Patch gone = std::move(patch); }
    static_cast<void>(other.draining());
    EXPECT_EQ(call_quick(), 2) << "the change leads into it";
    EXPECT_EQ(unloaded, unloaded_before);
    ASSERT_TRUE(change->revert());
  }
  while (unloaded == unloaded_before) static_cast<void>(other.draining());
  const auto late = plan->commit();
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code(), Code::wrong_state) << late.error().message();
}

// patch_code.cpp, ~PatchCode(): the life is not ended.
TEST(Unload, APlanOfAPatchThatIsFreedIsTold) {
  const std::size_t mappings_before = mappings_of("patch");
  auto patch = load("patch");
  const auto plan = patch.plan();
  ASSERT_TRUE(plan);
  { const Patch gone = std::move(patch); }
  EXPECT_EQ(mappings_of("patch"), mappings_before) << "nothing ever led there";
  const auto late = plan->commit();
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code(), Code::wrong_state) << late.error().message();
  EXPECT_EQ(call_quick(), 1);
}

TEST(Unload, AnotherPatchOfTheSameFileIsNotTakenForTheOneThatDrains) {
  const std::size_t mappings_before = mappings_of("patch");
  Patch first = applied("patch");
  Gate gate;
  Thread thread([&] { return call_slow(gate.fd()); });
  thread.wait_until_in(SYS_read, gate.fd());
  ASSERT_TRUE(first.revert());
  const std::size_t mappings_with_one = mappings_of("patch");
  const int unloaded_before = unloaded;
  {
    Patch second = applied("patch");
    EXPECT_EQ(call_quick(), 2);
    EXPECT_EQ(mappings_of("patch"), 2 * mappings_with_one - mappings_before);
    ASSERT_TRUE(second.revert());
    EXPECT_TRUE(second.wait(kPatient));
  }
  EXPECT_EQ(unloaded, unloaded_before + 1);
  EXPECT_EQ(mappings_of("patch"), mappings_with_one);
  EXPECT_EQ(first.draining().code, SHUNT_CODE_DRAINING);
  gate.open();
  EXPECT_EQ(thread.join(), 2);
  EXPECT_TRUE(first.wait(kPatient));
}

Patch *patch_of_callback = nullptr;

// question.cpp, ask_self(): passes (a crash).
TEST(Unload, IsNotPulledFromUnderWhoRevertsItFromInside) {
  Patch patch = applied("patch");
  patch_of_callback = &patch;
  const int answer = call_ask([] {
    EXPECT_TRUE(patch_of_callback->revert());
    const shunt_draining draining = patch_of_callback->draining();
    EXPECT_EQ(draining.code, SHUNT_CODE_DRAINING);
    EXPECT_TRUE(is_in_the_way(draining, static_cast<int>(syscall(SYS_gettid)))) << draining.text;
    EXPECT_FALSE(patch_of_callback->wait(milliseconds(20)));
    return 1;
  });
  EXPECT_EQ(answer, 21);
  const auto gone = patch.wait(kPatient);
  EXPECT_TRUE(gone) << gone.error().message();
}

// patch_code.cpp, unload(): with the engine held, or the registry (it hangs, or the inner patch is refused as busy).
TEST(Unload, ADestructorMayCallShunt) {
  static int answer;
  answer = 0;
  at_unload = [] {
    at_unload = nullptr;
    Patch inner = applied("patch");
    answer = call_quick();
    EXPECT_TRUE(inner.revert());
  };
  const auto mappings_before = mappings();
  Patch patch = applied("patch");
  ASSERT_TRUE(patch.revert());
  const auto gone = patch.wait(kPatient);
  EXPECT_TRUE(gone) << gone.error().message();
  EXPECT_EQ(answer, 2);
  EXPECT_EQ(call_quick(), 1);
  EXPECT_EQ(mappings(), mappings_before) << "both are gone";
}

// ---- e40

// patch_code.cpp, ask(): the threads of the parent (the list is kept from the last question).
TEST(Unload, AChildGoesOnByItselfWithWhatDrains) {
  const std::size_t mappings_before = mappings_of("patch");
  Patch patch = applied("patch");
  Gate gate;
  Thread thread([&] { return call_slow(gate.fd()); });
  thread.wait_until_in(SYS_read, gate.fd());
  ASSERT_TRUE(patch.revert());
  in_child([&] {
    const auto gone = patch.wait(kPatient);
    EXPECT_TRUE(gone) << gone.error().message();
    EXPECT_EQ(mappings_of("patch"), mappings_before) << "the thread that was inside is not here";
    Patch another = applied("patch");
    EXPECT_EQ(call_quick(), 2);
    EXPECT_TRUE(another.revert());
    EXPECT_TRUE(another.wait(kPatient));
  });
  EXPECT_EQ(patch.draining().code, SHUNT_CODE_DRAINING) << "the parent's is its own";
  gate.open();
  EXPECT_EQ(thread.join(), 2);
  EXPECT_TRUE(patch.wait(kPatient));
}

/// The child's only thread is not on the first thread's stack.
TEST(Unload, AChildThatAnotherThreadForkedUnloadsToo) {
  Thread thread([&] {
    in_child([&] {
      Patch patch = applied("patch");
      EXPECT_TRUE(patch.revert());
      const auto gone = patch.wait(kPatient);
      EXPECT_TRUE(gone) << gone.error().message();
    });
    return 0;
  });
  EXPECT_EQ(thread.join(), 0);
}

// ---- e41

// question.cpp, send(): blocked signals not looked at, and asked is who is asleep from outside.
TEST(Unload, SaysThatAThreadBlocksAllSignals) {
  Gate before, after;
  const auto block = [] {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
  };
  Thread old_one([&] {
    block();
    return call_slow(before.fd());
  });
  old_one.wait_until_in(SYS_read, before.fd());
  Patch patch = applied("patch");
  Thread new_one([&] {
    block();
    return call_slow(after.fd());
  });
  new_one.wait_until_in(SYS_read, after.fd());
  ASSERT_TRUE(patch.revert());
  const shunt_draining draining = patch.draining();
  EXPECT_TRUE(is_in_the_way(draining, new_one.id())) << draining.text;
  EXPECT_FALSE(is_in_the_way(draining, old_one.id())) << draining.text;
  ASSERT_EQ(draining.thread_count, 1U);
  EXPECT_NE(std::string(draining.threads[0].why).find("blocks"), std::string::npos) << draining.threads[0].why;
  after.open();
  EXPECT_EQ(new_one.join(), 2);
  EXPECT_TRUE(patch.wait(kPatient));
  before.open();
  EXPECT_EQ(old_one.join(), 1);
}

}  // namespace
