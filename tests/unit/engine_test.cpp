// lib/slot and lib/engine, what of them needs no process to work on: the packed list of slots, and the last search.
//
// Shown to fail: SlotList without the search in odd_of(); at() that looks in the first span only; LastSearch::answers() that
// does not compare the generation, or the names; keep() without its limit.
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "engine/last_search.hpp"
#include "slot/slot_list.hpp"

namespace {

using namespace shunt::core;

Slot slot(std::uint32_t where, std::uint32_t redirect, bool is_odd = false) {
  Slot slot = {};
  slot.where = where;
  slot.redirect = redirect;
  slot.is_odd = is_odd;
  return slot;
}

TEST(SlotList, FindsSlotsByAddressAndWhatTheyHeld) {
  constexpr std::uintptr_t kFunction = 0x1000, kStub = 0x7777, kReplacement = 0x5000;
  SlotList list;
  for (const Slot &one : {slot(0x10, 0), slot(0x20, kMostRedirects - 1, true), slot(0x8, 0, true), slot(0xfffffff8, 1)})
    ASSERT_TRUE(list.slots.push_back(one));
  ASSERT_TRUE(list.odd.push_back({kStub, 1, 0}) && list.odd.push_back({kFunction - 24, 2, -24}));
  ASSERT_TRUE(list.spans.push_back({1, "a", 0x10000, 0x10010, 0x10020, 0, 2}));
  ASSERT_TRUE(list.spans.push_back({2, "b", 0x20000, 0x20008, 0x20000 + 0xfffffff8UL, 2, 2}));

  ASSERT_EQ(list.at(0x10010), &list.slots[0]);
  ASSERT_EQ(list.at(0x10020), &list.slots[1]);
  ASSERT_EQ(list.at(0x20008), &list.slots[2]);
  ASSERT_EQ(list.at(0x20000 + 0xfffffff8UL), &list.slots[3]);
  for (const std::uintptr_t address : {0x10008UL, 0x10018UL, 0x10028UL, 0x20010UL, 0x0UL, ~0UL})
    EXPECT_EQ(list.at(address), nullptr) << address;
  EXPECT_EQ(list.slots[1].redirect, kMostRedirects - 1);
  EXPECT_EQ(list.before(list.slots[0], kFunction), kFunction);
  EXPECT_EQ(list.before(list.slots[1], kFunction), kStub);
  EXPECT_EQ(list.before(list.slots[2], kFunction), kFunction - 24);
  EXPECT_EQ(list.after(list.slots[0], kReplacement), kReplacement);
  EXPECT_EQ(list.after(list.slots[1], kReplacement), kReplacement);
  EXPECT_EQ(list.after(list.slots[2], kReplacement), kReplacement - 24);
}

TEST(LastSearch, AnswersForTheSameNamesOfTheSameObjectsOnly) {
  const std::vector<std::uint32_t> names = {4, 7}, others = {4, 8}, fewer = {4};
  LastSearch last;
  EXPECT_FALSE(last.answers(1, names));

  ASSERT_TRUE(last.start().slots.push_back(slot(8, 1)));
  EXPECT_FALSE(last.answers(1, names));  // before it is complete
  last.keep(1, names, 10);

  EXPECT_TRUE(last.answers(1, names));
  EXPECT_FALSE(last.answers(2, names));
  EXPECT_FALSE(last.answers(1, others));
  EXPECT_FALSE(last.answers(1, fewer));
  EXPECT_EQ(last.found().slots.size(), 1U);
  last.start();
  EXPECT_FALSE(last.answers(1, names));
}

TEST(LastSearch, IsForgottenWhereItIsTooLarge) {
  constexpr std::size_t kObjects = 3, kMost = kObjects * LastSearch::kBytesPerObject / sizeof(Slot);
  for (const std::size_t count : {kMost, kMost + 1}) {
    LastSearch last;
    FoundSlots &found = last.start();
    for (std::size_t k = 0; k < count; ++k) ASSERT_TRUE(found.slots.push_back(slot(0, 0)));

    last.keep(1, {}, kObjects);

    EXPECT_EQ(last.answers(1, {}), count == kMost);
    EXPECT_EQ(last.found().slots.size(), count == kMost ? count : 0);
  }
}

}  // namespace
