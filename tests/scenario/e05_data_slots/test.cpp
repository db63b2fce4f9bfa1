// Pointers to functions in data are slots too: tables, vtables, and pointers with an addend. A slot that is no aligned word
// cannot be stored in one piece, so it is left alone and named.
//
// Shown to fail (each guard of lib/ taken out, the test seen to fail, the guard put back):
//   ATable…, AVtable…   arch/x86_64/reloc.hpp: R_X86_64_64 is no slot
//   AnAddend…           planner.cpp, classify(): Slot::addend stays 0
//   AnUnaligned…        planner.cpp, plan_special(): does not ask for alignment
#include <gtest/gtest.h>
#include <shunt/shunt.hpp>

#include <cstdint>
#include <memory>
#include <string>

#include "../memory_of.hpp"
#include "e05.hpp"

namespace {

int add_100(int x) { return x + 100; }
int three_sides(const Base *) { return 3; }

shunt::Options data_only() { return {.callers = {"libe05_data.so"}}; }
std::uint64_t address(e05_function *function) { return reinterpret_cast<std::uint64_t>(function); }

TEST(DataSlots, ATableOfFunctions) {
  e05_function *const *table = e05_table();
  auto redirect = shunt::redirect("e05_second", &add_100, data_only());
  ASSERT_TRUE(redirect) << redirect.error().message();
  EXPECT_EQ(redirect->slots(), 1U);

  EXPECT_EQ(table[0](1), 2);
  EXPECT_EQ(table[1](1), 101);
  EXPECT_EQ(redirect->original()(1), 3);

  ASSERT_TRUE(redirect->revert());
  EXPECT_EQ(table[1](1), 3);
}

TEST(DataSlots, AVtable) {
  const std::unique_ptr<Base> derived(e05_make_derived());
  auto redirect = shunt::redirect("_ZNK4Base5sidesEv", &three_sides, data_only());
  ASSERT_TRUE(redirect) << redirect.error().message();

  EXPECT_EQ(derived->sides(), 3);
  EXPECT_EQ(redirect->original()(derived.get()), 4);

  ASSERT_TRUE(redirect->revert());
  EXPECT_EQ(derived->sides(), 4);
}

TEST(DataSlots, AnAddendIsKept) {
  const auto place = reinterpret_cast<std::uint64_t>(e05_beyond_by_4());
  ASSERT_EQ(scenario::word_at(place), address(&e05_beyond) + 4);

  auto redirect = shunt::redirect("e05_beyond", &add_100, data_only());
  ASSERT_TRUE(redirect) << redirect.error().message();

  EXPECT_EQ(scenario::word_at(place), address(&add_100) + 4);
  EXPECT_EQ(address(redirect->original()), address(&e05_beyond));

  ASSERT_TRUE(redirect->revert());
  EXPECT_EQ(scenario::word_at(place), address(&e05_beyond) + 4);
}

TEST(DataSlots, AnUnalignedSlotIsNamedAndNotWritten) {
  ASSERT_NE(reinterpret_cast<std::uintptr_t>(e05_packed_place()) % sizeof(void *), 0U);
  auto transaction = shunt::Transaction::create();
  ASSERT_TRUE(transaction->add("e05_first", &add_100, data_only()));
  const auto plan = transaction->plan();
  ASSERT_TRUE(plan) << plan.error().message();
  EXPECT_EQ(plan->slots(), 1U) << "that of the table";
  EXPECT_NE(std::string(plan->coverage()).find("not aligned to a word: not reached"), std::string::npos) << plan->coverage();

  const auto change = plan->commit();
  ASSERT_TRUE(change) << change.error().message();

  EXPECT_EQ(e05_packed_first()(1), 2);
  EXPECT_EQ(e05_table()[0](1), 101);
}

TEST(DataSlots, AnUnalignedSlotAloneIsRefused) {
  const scenario::Pages before = scenario::memory_of("libe05_data");

  const auto redirect = shunt::redirect("e05_unaligned", &add_100, data_only());

  ASSERT_FALSE(redirect);
  EXPECT_EQ(redirect.error().code(), shunt::Code::no_caller) << redirect.error().message();
  EXPECT_NE(std::string(redirect.error().message()).find("not aligned"), std::string::npos) << redirect.error().message();
  EXPECT_EQ(scenario::memory_of("libe05_data"), before);
  EXPECT_EQ(e05_packed_unaligned()(1), 4);
}

}  // namespace
