// e45 with layers of all kinds: by slots only, for one caller only, by the entry only, by both; three of them over one function, of
// every kind in every order, and reverted in every order. A small model says which replacements a call must come to, and in which
// order; every call is made after every step.
//
// Shown to fail: original_of() without `bottom` (a slot layer below calls itself for ever: the function's address leads to the
// replacement above); originals_with() that answers nothing; originals_without() that looks at the same symbol only;
// revert() whose step always leads to the function.
#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "support.hpp"

namespace {

using namespace entries;
using shunt::Reach;

enum class Kind { slots, one_caller, entry, both };
constexpr Kind kKinds[] = {Kind::slots, Kind::one_caller, Kind::entry, Kind::both};

void *originals[3];
/// A call's way is a number: a digit for each replacement that it came to, the last one first.
template <int kLayer>
int replacement(int x) {
  const auto original = reinterpret_cast<int (*)(int)>(__atomic_load_n(&originals[kLayer], __ATOMIC_ACQUIRE));
  return 10 * original(x) + kLayer + 1;
}
int (*const kReplacements[])(int) = {&replacement<0>, &replacement<1>, &replacement<2>};

// ---- the model

enum Way { own_slot, caller_slot, direct };

struct Layer {
  int number;
  Kind kind;
  [[nodiscard]] bool has_entry() const { return kind == Kind::entry || kind == Kind::both; }
  [[nodiscard]] bool has_slot(Way way) const {
    if (kind == Kind::one_caller) return way == caller_slot;
    return kind != Kind::entry && way != direct;
  }
  /// Every call that comes to `other` would come to this one.
  [[nodiscard]] bool gets_all_of(const Layer &other) const {
    if (has_entry()) return true;
    if (other.has_entry()) return false;
    return (has_slot(own_slot) || !other.has_slot(own_slot)) && (has_slot(caller_slot) || !other.has_slot(caller_slot));
  }
};

/// Which replacements a call comes to, the first first.
std::vector<int> way_of(const std::vector<Layer> &standing, Way way) {
  std::vector<int> numbers;
  auto at = std::find_if(standing.rbegin(), standing.rend(), [way](const Layer &one) { return one.has_slot(way); });
  if (at == standing.rend())
    at = std::find_if(standing.rbegin(), standing.rend(), [](const Layer &one) { return one.has_entry(); });
  while (at != standing.rend()) {
    numbers.push_back(at->number);
    at = std::find_if(at + 1, standing.rend(), [&](const Layer &below) { return below.gets_all_of(*at); });
  }
  return numbers;
}

int expected(const std::vector<Layer> &standing, Way way) {
  const std::vector<int> numbers = way_of(standing, way);
  int value = 7;
  for (auto number = numbers.rbegin(); number != numbers.rend(); ++number) value = 10 * value + *number + 1;
  return value;
}

void expect_ways(const std::vector<Layer> &standing) {
  EXPECT_EQ(inner(7), expected(standing, own_slot));
  EXPECT_EQ(inner_from_caller(7), expected(standing, caller_slot));
  EXPECT_EQ(call_inner(7), expected(standing, direct));
}

shunt::Options options_of(Kind kind, int number) {
  shunt::Options options;
  options.original = &originals[number];
  if (kind == Kind::one_caller) options.callers = {"libentries_caller.so"};
  if (kind == Kind::slots) options.reach = Reach::slots;
  if (kind == Kind::entry) options.reach = Reach::entry;
  return options;
}

void run(const std::array<Kind, 3> &kinds, const std::array<int, 3> &order) {
  std::vector<Layer> standing;
  std::array<std::optional<shunt::Redirect<int(int)>>, 3> changes;
  for (int k = 0; k < 3; ++k) {
    auto change = shunt::redirect("inner", kReplacements[k], options_of(kinds[k], k));
    ASSERT_TRUE(change) << change.error().message();
    EXPECT_EQ(change->entries(), kinds[k] == Kind::entry || kinds[k] == Kind::both ? 1U : 0U);
    changes[k].emplace(std::move(*change));
    standing.push_back({k, kinds[k]});
    expect_ways(standing);
  }
  for (const int k : order) {
    const auto reverted = changes[k]->revert();
    ASSERT_TRUE(reverted) << reverted.error().message();
    EXPECT_EQ(changes[k]->conflicts(), 0U);
    std::erase_if(standing, [k](const Layer &one) { return one.number == k; });
    expect_ways(standing);
  }
}

TEST(entries, LayersOfEveryKindComeAndGoInEveryOrder) {
  const Bytes before;
  for (const Kind a : kKinds)
    for (const Kind b : kKinds)
      for (const Kind c : kKinds) {
        std::array<int, 3> order = {0, 1, 2};
        do {
          SCOPED_TRACE(::testing::Message()
                       << "kinds " << static_cast<int>(a) << static_cast<int>(b) << static_cast<int>(c) << ", reverted "
                       << order[0] << order[1] << order[2]);
          run({a, b, c}, order);
          if (::testing::Test::HasFailure()) return;
        } while (std::next_permutation(order.begin(), order.end()));
      }
  expect_as(before);
}

/// Another name of the same code is another symbol, but the same entry.
TEST(entries, LayersUnderAnotherNameMeetAtTheEntry) {
  auto slots = shunt::redirect("second_name", kReplacements[0], options_of(Kind::slots, 0));
  ASSERT_TRUE(slots) << slots.error().message();
  shunt::Options options = options_of(Kind::entry, 1);
  options.also = {"second_name"};
  auto entry = shunt::redirect("first_name", kReplacements[1], options);
  ASSERT_TRUE(entry) << entry.error().message();
  EXPECT_EQ(second_name(7), 71) << "its original is not the function's address, which leads to the layer above";
  EXPECT_EQ(call_first_name(7), 72);
  auto above = shunt::redirect("second_name", kReplacements[2], options_of(Kind::one_caller, 2));
  EXPECT_FALSE(above);
  ASSERT_TRUE(entry->revert());
  EXPECT_EQ(second_name(7), 71);
  EXPECT_EQ(call_first_name(7), 7);
  EXPECT_EQ(slots->original(), address_of("second_name"));
}

}  // namespace
