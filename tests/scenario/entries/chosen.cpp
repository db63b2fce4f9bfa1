// By which way a function is redirected, and what the plan says of it: each kind of inner call, by name and address, forced and
// automatic; filters, aliases, what is refused.
//
// Shown to fail: EntryPlanner::inner_use() that is always no_inner_call (an inner call is not reached), or always inner_call (aside() gets
// an entry), or does not ask keeps() (the table is not reached); without the addresses in find_other_uses() taken() is not; without is_for_some() in decide() a filter reaches everybody; without `strangers` in why_not_its_names() an alias is
// redirected unasked; with Reach::entry not heeded in Planner::classify() slots are written; with find_static() taking the
// first it finds, the twins are confused.
#include "support.hpp"

namespace {

using namespace entries;
using shunt::Code;
using shunt::Reach;

TEST(entries, AutomaticTakesSlotsWhereNothingInsideCallsIt) {
  const shunt::Plan plan = plan_of("aside");
  EXPECT_GE(plan.slots(), 1);  // a compiler may keep its address in further ones
  EXPECT_EQ(plan.entry(0).chosen, 0);
  EXPECT_TRUE(says(plan.coverage(), "slots only: nothing in ")) << plan.coverage();
  const auto change = plan.commit();
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(change->entries(), 0);
  EXPECT_EQ(aside(1), 1001);
}

TEST(entries, AutomaticTakesBothWhereItIsCalledInside) {
  const Bytes before;
  {
    const shunt::Plan plan = plan_of("inner");
    EXPECT_EQ(plan.slots(), 2);
    const shunt_entry_info entry = plan.entry(0);
    EXPECT_EQ(entry.chosen, 1);
    EXPECT_EQ(entry.address, reinterpret_cast<std::uint64_t>(address_of("inner")));
    EXPECT_STRNE(entry.form, "");
    EXPECT_TRUE(says(entry.why, "calls it directly")) << entry.why;
    EXPECT_STREQ(entry.names, "inner");
    EXPECT_TRUE(says(plan.coverage(), "entry: jump at 0x")) << plan.coverage();
    const auto change = plan.commit();
    ASSERT_TRUE(change) << change.error().message();
    EXPECT_EQ(change->entries(), 1);
    EXPECT_EQ(change->slots(), 2);
    EXPECT_EQ(inner(1), 1001);
    EXPECT_EQ(inner_from_caller(1), 1001);
    EXPECT_EQ(call_inner(1), 1001);
    const auto original = reinterpret_cast<int (*)(int)>(change->original());
    EXPECT_NE(original, address_of("inner")) << "it would lead to the replacement";
    EXPECT_EQ(original(1), 1);
  }
  EXPECT_EQ(call_inner(1), 1);
  expect_as(before);
}

TEST(entries, AutomaticTakesBothWhereItsProviderHasAPointerToIt) {
  struct {
    const char *name;
    int (*call)(int), (*from_outside)(int);
    const char *why;
  } const cases[] = {{"taken", call_taken, taken, "takes its address"}, {"kept", call_kept, kept, "keeps its address"}};
  for (const auto &one : cases) {
    SCOPED_TRACE(one.name);
    {
      const shunt::Plan plan = plan_of(one.name);
      EXPECT_EQ(plan.entry(0).chosen, 1);
      EXPECT_TRUE(says(plan.entry(0).why, one.why)) << plan.entry(0).why;
      const auto change = plan.commit();
      ASSERT_TRUE(change) << change.error().message();
      EXPECT_EQ(one.call(1), 1001);
      EXPECT_EQ(one.from_outside(1), 1001);
    }
    EXPECT_EQ(one.call(1), 1);
  }
}

TEST(entries, OnlySlotsIsWhatItWas) {
  const auto change = shunt::redirect("inner", &thousand, {.reach = Reach::slots});
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(change->entries(), 0);
  EXPECT_EQ(inner(1), 1001);
  EXPECT_EQ(call_inner(1), 1);
  EXPECT_EQ(change->original(), address_of("inner"));
}

TEST(entries, OnlyTheEntryWritesNoSlot) {
  const evidence::Slots before = evidence::slots();
  const auto change = shunt::redirect("aside", &thousand, {.reach = Reach::entry});
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(change->entries(), 1);
  EXPECT_EQ(change->slots(), 0);
  EXPECT_TRUE(evidence::slots() == before);
  EXPECT_EQ(aside(1), 1001);
  EXPECT_EQ(change->original()(1), 1);
}

TEST(entries, FunctionsWithoutASlotAreFoundByName) {
  struct Case {
    const char *symbol;
    int (*call)(int);
    int plain;
  };
  for (const Case &one :
       {Case{"hidden", &call_hidden, 1}, Case{"concealed", &call_concealed, 1}, Case{"unnoticed", &call_unnoticed, 1},
        Case{"static_one", &call_static_one, 1}, Case{"game.c:hidden", &call_hidden, 1},
        Case{"twin_a.c:twin", &call_twin_a, 2}, Case{"twin_b.c:twin", &call_twin_b, 3}}) {
    SCOPED_TRACE(one.symbol);
    ASSERT_EQ(one.call(1), one.plain);
    const Bytes before;
    {
      const shunt::Plan plan = plan_of(one.symbol);
      EXPECT_EQ(plan.slots(), 0);
      EXPECT_TRUE(says(plan.coverage(), "since nobody calls it through a slot")) << plan.coverage();
      const auto change = plan.commit();
      ASSERT_TRUE(change) << change.error().message();
      EXPECT_EQ(one.call(1), 1001);
      EXPECT_EQ(reinterpret_cast<int (*)(int)>(change->original())(1), one.plain);
    }
    EXPECT_EQ(one.call(1), one.plain);
    expect_as(before);
  }
}

TEST(entries, ByAddress) {
  char text[32];
  std::snprintf(text, sizeof text, "%p", reinterpret_cast<void *>(address_of("inner")));
  {
    const auto change = shunt::redirect(text, &thousand);
    ASSERT_TRUE(change) << change.error().message();
    EXPECT_EQ(call_inner(1), 1001);
    EXPECT_EQ(inner_from_caller(1), 1001);
  }
  std::snprintf(text, sizeof text, "%#lx", reinterpret_cast<unsigned long>(address_of("inner")) + 1);
  const auto refused = shunt::redirect(text, &thousand);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::entry_refused) << refused.error().message();
  EXPECT_TRUE(says(refused.error().message(), "inner")) << refused.error().message();
}

TEST(entries, AStaticNameThatSeveralHaveIsAsked) {
  const auto change = shunt::redirect("twin", &thousand);
  ASSERT_FALSE(change);
  EXPECT_EQ(change.error().code(), Code::several_functions);
  EXPECT_TRUE(says(change.error().message(), "twin_a.c:twin")) << change.error().message();
  EXPECT_TRUE(says(change.error().message(), "twin_b.c:twin")) << change.error().message();
}

TEST(entries, ANameThatNobodyHasSaysWhereItWasLookedFor) {
  const auto change = shunt::redirect("no_such_function", &thousand);
  ASSERT_FALSE(change);
  EXPECT_EQ(change.error().code(), Code::unknown_symbol);
  EXPECT_TRUE(says(change.error().message(), ".symtab")) << change.error().message();
}

TEST(entries, AFilterNeverTakesAnEntry) {
  const shunt::Options some = {.callers = {"libentries_caller.so"}};
  const shunt::Plan plan = plan_of("inner", some);
  EXPECT_GE(plan.slots(), 1);  // a compiler may keep its address in further ones
  EXPECT_EQ(plan.entry(0).chosen, 0);
  EXPECT_TRUE(says(plan.coverage(), "go through no slot: not reached, since an entry is not for some"))
      << plan.coverage();
  const auto change = shunt::redirect("inner", &thousand, some);
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(change->entries(), 0);
  EXPECT_EQ(inner_from_caller(1), 1001);
  EXPECT_EQ(inner(1), 1);
  EXPECT_EQ(call_inner(1), 1);

  const auto forced =
      shunt::redirect("inner", &thousand, {.not_callers = {"libentries_caller.so"}, .reach = Reach::entry});
  ASSERT_FALSE(forced);
  EXPECT_EQ(forced.error().code(), Code::invalid_argument) << forced.error().message();
}

TEST(entries, AliasesMustBeAccepted) {
  ASSERT_EQ(first_name(1), 1);
  const shunt::Plan automatic = plan_of("first_name");
  EXPECT_EQ(automatic.entry(0).chosen, 0);
  EXPECT_TRUE(says(automatic.entry(0).why, "second_name")) << automatic.entry(0).why;
  EXPECT_TRUE(says(automatic.coverage(), "no entry, calls inside")) << automatic.coverage();

  const auto forced = shunt::redirect("first_name", &thousand, {.reach = Reach::entry});
  ASSERT_FALSE(forced);
  EXPECT_EQ(forced.error().code(), Code::entry_refused);
  EXPECT_TRUE(says(forced.error().message(), "second_name")) << forced.error().message();

  const shunt::Options accepting = {.also = {"second_name"}};
  EXPECT_TRUE(says(plan_of("first_name", accepting).coverage(), "all names of this code: "));
  const auto change = shunt::redirect("first_name", &thousand, accepting);
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(call_first_name(1), 1001);
  EXPECT_EQ(second_name(1), 1001);
}

TEST(entries, OneThatIsTooShortKeepsItsSlots) {
  const shunt::Plan plan = plan_of("tiny");
  EXPECT_EQ(plan.slots(), 1);
  EXPECT_TRUE(says(plan.coverage(), "too short")) << plan.coverage();
  const auto change = plan.commit();
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(tiny(1), 1001);
  EXPECT_EQ(call_tiny(1), 1);

  const auto forced = shunt::redirect("tiny", &thousand, {.reach = Reach::entry});
  ASSERT_FALSE(forced);
  EXPECT_EQ(forced.error().code(), Code::entry_refused);
  EXPECT_TRUE(says(forced.error().message(), "too short")) << forced.error().message();
}

TEST(entries, NeverTheDynamicLinkerNorWhatAnIfuncChose) {
  for (const char *symbol : {"_dl_debug_state", "_Unwind_RaiseException", "memcpy"}) {
    const auto change = shunt::redirect(symbol, &thousand, {.reach = Reach::entry});
    ASSERT_FALSE(change) << symbol;
    EXPECT_EQ(change.error().code(), Code::entry_refused) << change.error().message();
  }
}

}  // namespace
