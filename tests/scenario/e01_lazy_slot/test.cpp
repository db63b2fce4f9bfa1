// A lazily bound slot holds, until its first call, the address of a PLT stub that makes ld.so bind it. Such a stub must
// never become the original: calling it would make ld.so write the slot, and the redirect would be gone after one call.
//
// Shown to fail (each guard of lib/ taken out, the test seen to fail, the guard put back):
//   TheOriginalIsTheFunction…   planner.cpp: the value of a slot that is not yet bound taken for the function, without search()
//   ARevertGivesTheStubBack…    writer.cpp, take_out(): slots set to the function instead of to Slot::before
//   APlanMadeWhileLazy…         writer.cpp, put_in_span(): the function that ld.so stores is not expected
//   HoldsAfterAThread…          engine.cpp: settle() does nothing
//   ALayerHoldsAsWell…          engine.cpp, revert(): Slot::is_lazy is not handed to the layer above
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <shunt/shunt.hpp>

#include <semaphore>
#include <thread>

#include "../memory_of.hpp"
#include "e01.h"

namespace {

using scenario::word_at;
using Function = int(int);

void *original = nullptr;  // of the one redirect that stands
int add_100(int x) { return reinterpret_cast<Function *>(__atomic_load_n(&original, __ATOMIC_ACQUIRE))(x) + 100; }

shunt::Plan plan_for(const char *symbol) {
  shunt::Transaction transaction = shunt::Transaction::create().value();
  EXPECT_TRUE(transaction.add(symbol, &add_100, {.callers = {"libe01_caller.so"}, .original = &original}));
  shunt::Result<shunt::Plan> plan = transaction.plan();
  EXPECT_TRUE(plan) << plan.error().message();
  return std::move(plan).value();
}

/// The stub that a lazy slot holds lies in the object that holds the slot.
bool is_stub(std::uint64_t value) {
  Dl_info holder{}, caller{};
  return dladdr(reinterpret_cast<void *>(value), &holder) != 0 &&
         dladdr(reinterpret_cast<void *>(&e01_call_applied), &caller) != 0 && holder.dli_fbase == caller.dli_fbase;
}

std::uint64_t function(const char *symbol) { return reinterpret_cast<std::uint64_t>(dlsym(RTLD_DEFAULT, symbol)); }

TEST(LazySlot, TheOriginalIsTheFunctionAndNotTheStub) {
  const shunt::Plan plan = plan_for("e01_applied");
  ASSERT_EQ(plan.slots(), 1U);
  ASSERT_TRUE(plan.slot(0).lazy);
  ASSERT_TRUE(is_stub(plan.slot(0).value));
  EXPECT_EQ(reinterpret_cast<std::uint64_t>(plan.original(0)), function("e01_applied"));

  const auto change = plan.commit();
  ASSERT_TRUE(change) << change.error().message();

  EXPECT_EQ(reinterpret_cast<std::uint64_t>(change->original()), function("e01_applied"));
  EXPECT_EQ(e01_call_applied(1), 102);
  EXPECT_EQ(e01_call_applied(1), 102);
  EXPECT_EQ(change->conflicts(), 0U);
}

TEST(LazySlot, ARevertGivesTheStubBackAndTheNextCallBinds) {
  const shunt::Plan plan = plan_for("e01_reverted");
  const shunt_slot_info slot = plan.slot(0);
  ASSERT_TRUE(slot.lazy);
  auto change = plan.commit();
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(e01_call_reverted(1), 102);

  ASSERT_TRUE(change->revert());

  EXPECT_EQ(word_at(slot.address), slot.value);
  EXPECT_EQ(e01_call_reverted(1), 2);
  EXPECT_EQ(word_at(slot.address), function("e01_reverted"));
}

TEST(LazySlot, APlanMadeWhileLazyIsGoodAfterACallHasBoundTheSlot) {
  const shunt::Plan plan = plan_for("e01_planned");
  const shunt_slot_info slot = plan.slot(0);
  ASSERT_TRUE(slot.lazy);
  EXPECT_EQ(e01_call_planned(1), 2);
  ASSERT_EQ(word_at(slot.address), function("e01_planned"));

  auto change = plan.commit();
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(e01_call_planned(1), 102);
  ASSERT_TRUE(change->revert());

  EXPECT_EQ(word_at(slot.address), function("e01_planned"));
  EXPECT_EQ(e01_call_planned(1), 2);
}

/// A thread whose first call of a lazily bound function is held inside ld.so, which has looked the function up and not yet
/// stored it: in the IFUNC's resolver. The engine runs the resolver too, on another thread, and is not held.
class HeldInTheResolver {
 public:
  explicit HeldInTheResolver(Function *call) {
    e01_resolver_runs = [] {
      if (!is_held_thread) return;
      is_inside.release();
      may_leave.acquire();
    };
    thread_ = std::thread([this, call] {
      is_held_thread = true;
      answer_ = call(1);
    });
    is_inside.acquire();
  }
  /// Lets ld.so store the function. The answer to the thread's call.
  int release() {
    may_leave.release();
    thread_.join();
    return answer_;
  }

 private:
  static inline thread_local bool is_held_thread = false;
  static inline std::binary_semaphore is_inside{0}, may_leave{0};
  int answer_ = 0;
  std::thread thread_;
};

TEST(LazySlot, HoldsAfterAThreadThatWasInsideTheResolverHasStoredTheOriginal) {
  HeldInTheResolver held(&e01_call_held);
  const shunt::Plan plan = plan_for("e01_held");
  const shunt_slot_info slot = plan.slot(0);
  ASSERT_TRUE(slot.lazy);
  auto change = plan.commit();
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(e01_call_held(1), 102);

  EXPECT_EQ(held.release(), 2) << "that call began before the redirect";
  ASSERT_EQ(word_at(slot.address), function("e01_held")) << "ld.so was to store the original over the redirect";

  EXPECT_EQ(change->conflicts(), 0U) << "what ld.so binds is nobody's conflict";
  EXPECT_EQ(word_at(slot.address), reinterpret_cast<std::uint64_t>(&add_100));
  EXPECT_EQ(e01_call_held(1), 102);
  EXPECT_EQ(e01_call_held(1), 102);
  ASSERT_TRUE(change->revert());
  EXPECT_EQ(e01_call_held(1), 2);
}

// Two threads make the first call at the same time: the slot looks bound while one of them is still about to bind it. Shown to
// fail: with slots marked as late only when they held the stub, the redirect is lost.
TEST(LazySlot, HoldsAfterTheSlowerOfTwoThreadsHasBoundIt) {
  HeldInTheResolver held(&e01_call_twice);
  EXPECT_EQ(e01_call_twice(1), 2) << "bound by this thread";
  const shunt::Plan plan = plan_for("e01_twice");
  const shunt_slot_info slot = plan.slot(0);
  ASSERT_FALSE(slot.lazy);
  auto change = plan.commit();
  ASSERT_TRUE(change) << change.error().message();

  EXPECT_EQ(held.release(), 2);
  ASSERT_EQ(word_at(slot.address), function("e01_twice")) << "ld.so was to store the original over the redirect";

  EXPECT_EQ(change->conflicts(), 0U);
  EXPECT_EQ(e01_call_twice(1), 102);
  ASSERT_TRUE(change->revert());
  EXPECT_EQ(e01_call_twice(1), 2);
}

int seven(int) { return 7; }

TEST(LazySlot, ALayerHoldsAsWellWhenTheOneBelowItHasBeenReverted) {
  HeldInTheResolver held(&e01_call_held_below);
  const shunt::Plan plan = plan_for("e01_held_below");
  const shunt_slot_info slot = plan.slot(0);
  ASSERT_TRUE(slot.lazy);
  auto below = plan.commit();
  ASSERT_TRUE(below) << below.error().message();
  auto above = shunt::redirect("e01_held_below", &seven);
  ASSERT_TRUE(above) << above.error().message();
  ASSERT_TRUE(below->revert());
  EXPECT_EQ(e01_call_held_below(1), 7);

  EXPECT_EQ(held.release(), 2);
  ASSERT_EQ(word_at(slot.address), function("e01_held_below"));

  EXPECT_EQ(above->conflicts(), 0U);
  EXPECT_EQ(e01_call_held_below(1), 7);
  ASSERT_TRUE(above->revert());
  EXPECT_EQ(e01_call_held_below(1), 2);
}

}  // namespace
