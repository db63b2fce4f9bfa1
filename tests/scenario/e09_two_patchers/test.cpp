// e09: two patchers in one process. Whatever another tool wrote is its own: shunt reports it, never overwrites it, never
// takes it away.
//
// Shown to fail: with change_word() (lib/slot) storing without comparing, AChangedSlot… and AHookOverOurs… fail; with
// change_all_words() not undoing what it wrote, AChangedSlot… finds the first callers redirected; with the mutex of
// Engine::Guard (lib/engine) not locked and Engine::write() outside the loader's lock, TwoTransactions… crashes: one
// thread closes the page before the other wrote; with Engine::apply() not planning again, AHookThatCame… is refused.
#include <shunt/shunt.hpp>

#include <atomic>
#include <barrier>
#include <cstring>
#include <string>
#include <thread>

#include "../evidence.hpp"
#include "../other_tool.hpp"

extern "C" {
int answer_from_a();
int answer_from_b();
int answer_from_c();
int question_from_a();
}

namespace {

int our_answer() { return 11; }
int our_question() { return 12; }
int hook_of_other_tool() { return 99; }
const auto kHook = reinterpret_cast<std::uintptr_t>(&hook_of_other_tool);

shunt::Transaction redirect_answer() {
  auto transaction = shunt::Transaction::create();
  EXPECT_TRUE(transaction->add("answer", &our_answer, {.callers = {"libe09_caller_*"}}));
  return std::move(*transaction);
}

/// Where the slot for `answer` of caller a, b or c lies.
std::uint64_t slot_of(const char *letter) {
  const auto plan = redirect_answer().plan();
  for (std::size_t k = 0; k < plan->slots(); ++k)
    if (std::strstr(plan->slot(k).caller, (std::string("libe09_caller_") + letter).c_str()) != nullptr)
      return plan->slot(k).address;
  ADD_FAILURE() << "no slot in caller " << letter;
  return 0;
}

TEST(e09_two_patchers, AChangedSlotBetweenPlanAndCommitChangesNothing) {
  for (const char *letter : {"a", "b", "c"}) {
    const std::uint64_t slot = slot_of(letter);
    const std::uintptr_t real = other_tool::read(slot);
    const auto plan = redirect_answer().plan();
    ASSERT_EQ(plan->slots(), 3U);
    other_tool::write(slot, kHook);
    const evidence::State before = evidence::state();

    const auto change = plan->commit();

    ASSERT_FALSE(change);
    EXPECT_EQ(change.error().code(), shunt::Code::slot_changed) << change.error().message();
    EXPECT_EQ(change.error().address(), slot);
    EXPECT_STREQ(change.error().symbol(), "answer");
    EXPECT_NE(std::string(change.error().object()).find(std::string("libe09_caller_") + letter), std::string::npos);
    EXPECT_EQ(evidence::difference(before), "");
    other_tool::write(slot, real);
  }
}

TEST(e09_two_patchers, AHookOverOursIsAConflictAndStaysWhenWeRevert) {
  const std::uint64_t slot = slot_of("b");
  const std::uintptr_t real = other_tool::read(slot);
  auto change = redirect_answer().apply();
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(change->conflicts(), 0U);

  other_tool::write(slot, kHook);
  EXPECT_EQ(change->conflicts(), 1U);
  ASSERT_TRUE(change->revert());

  EXPECT_EQ(change->conflicts(), 1U);
  EXPECT_EQ(answer_from_a(), 1);
  EXPECT_EQ(answer_from_b(), 99);
  EXPECT_EQ(answer_from_c(), 1);
  other_tool::write(slot, real);
}

TEST(e09_two_patchers, AHookThatWasThereIsTakenAndGivenBack) {
  const std::uint64_t slot = slot_of("a");
  const std::uintptr_t real = other_tool::read(slot);
  other_tool::write(slot, kHook);
  const evidence::State before = evidence::state();

  const auto plan = redirect_answer().plan();
  ASSERT_TRUE(plan) << plan.error().message();
  EXPECT_NE(std::string(plan->coverage()).find("another tool's hook"), std::string::npos) << plan->coverage();
  auto change = plan->commit();
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(answer_from_a(), 11);
  EXPECT_EQ(reinterpret_cast<int (*)()>(change->original())(), 1)
      << "the original is the function, not the other's hook";
  ASSERT_TRUE(change->revert());

  EXPECT_EQ(change->conflicts(), 0U);
  EXPECT_EQ(answer_from_a(), 99);
  EXPECT_EQ(evidence::difference(before), "");
  other_tool::write(slot, real);
}

TEST(e09_two_patchers, AHookThatCameAfterWeWereThereIsTakenAndGivenBack) {
  int (*const calls[])() = {&answer_from_a, &answer_from_b, &answer_from_c};
  for (std::size_t hooked = 0; hooked < std::size(calls); ++hooked) {
    // What slots held is known from the last time: twice the same, for every caller.
    for (int twice = 0; twice < 2; ++twice) ASSERT_TRUE(shunt::redirect("answer", &our_answer)->revert());
    const std::uint64_t slot = slot_of(std::string(1, static_cast<char>('a' + hooked)).c_str());
    ASSERT_TRUE(shunt::redirect("answer", &our_answer)->revert());
    const std::uintptr_t real = other_tool::read(slot);
    other_tool::write(slot, kHook);
    const evidence::State before = evidence::state();

    auto change = shunt::redirect("answer", &our_answer);

    ASSERT_TRUE(change) << change.error().message();
    EXPECT_EQ(change->conflicts(), 0U);
    for (const auto call : calls) EXPECT_EQ(call(), 11);
    ASSERT_TRUE(change->revert());
    for (std::size_t k = 0; k < std::size(calls); ++k) EXPECT_EQ(calls[k](), k == hooked ? 99 : 1);
    EXPECT_EQ(evidence::difference(before), "");
    other_tool::write(slot, real);
  }
}

TEST(e09_two_patchers, TwoTransactionsOnOnePageFromTwoThreads) {
  const evidence::State before = evidence::state();
  std::barrier start(2);
  const auto apply_and_revert = [&start](const char *symbol, int (*replacement)(), int (*call)()) {
    start.arrive_and_wait();
    for (int round = 0; round < 2000; ++round) {
      auto change = shunt::redirect(symbol, replacement, {.callers = {"libe09_caller_a*"}});
      ASSERT_TRUE(change) << change.error().message();
      ASSERT_EQ(call(), replacement());
      ASSERT_TRUE(change->revert());
      ASSERT_EQ(change->conflicts(), 0U);
      ASSERT_NE(call(), replacement());
    }
  };

  std::thread other(apply_and_revert, "question", &our_question, &question_from_a);
  apply_and_revert("answer", &our_answer, &answer_from_a);
  other.join();

  EXPECT_EQ(evidence::difference(before), "");
}

}  // namespace
