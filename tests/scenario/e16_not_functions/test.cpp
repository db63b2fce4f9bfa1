// Slots are there for data as well. A redirect of data is refused and changes nothing; a function is one even where its
// symbol has no type or no size.
//
// Shown to fail (each guard of lib/ taken out, the test seen to fail, the guard put back):
//   IsRefused…/data, copied, unique   planner.cpp, take_function(): lets data pass
//   IsRefused…/untyped_data           the same, where only is_data is asked for and not is_code
//   IsRefused…/per_thread             planner.cpp, explain_nothing(): does not ask for the type
//   WithoutAType                      planner.cpp, take_function(): everything but STT_FUNC is data
//   OfSize0                           elf/symbols.cpp, is_offered(): a symbol of size 0 is none
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <shunt/shunt.hpp>

#include <string>

#include "../memory_of.hpp"
#include "e16.h"

namespace {

int add_100(int x) { return x + 100; }

class Data : public testing::TestWithParam<std::string> {};

TEST_P(Data, IsRefusedAndNothingChanges) {
  const std::string symbol = "e16_" + GetParam();
  const int sum = e16_sum_of_data();
  const scenario::Pages before = scenario::memory_of("libe16_");

  const auto redirect = shunt::redirect(symbol.c_str(), &add_100);

  ASSERT_FALSE(redirect);
  EXPECT_EQ(redirect.error().code(), shunt::Code::not_a_function) << redirect.error().message();
  EXPECT_EQ(redirect.error().symbol(), symbol);
  EXPECT_EQ(scenario::memory_of("libe16_"), before);
  EXPECT_EQ(e16_sum_of_data(), sum);
}

INSTANTIATE_TEST_SUITE_P(Symbol, Data, testing::Values("data", "copied", "unique", "untyped_data", "per_thread"),
                         [](const auto &symbol) { return symbol.param; });

TEST(CopyRelocation, IsWhatTheProgramHasForCopied) {
  int *volatile copied = &e16_copied;
  Dl_info of_copied{}, of_program{};
  ASSERT_NE(dladdr(copied, &of_copied), 0);
  ASSERT_NE(dladdr(reinterpret_cast<void *>(&add_100), &of_program), 0);
  EXPECT_EQ(of_copied.dli_fbase, of_program.dli_fbase);
}

TEST(Function, WithoutAType) {
  auto redirect = shunt::redirect("e16_untyped", &add_100);
  ASSERT_TRUE(redirect) << redirect.error().message();
  EXPECT_EQ(e16_call_untyped(1), 101);
  EXPECT_EQ(redirect->original()(1), 2);

  ASSERT_TRUE(redirect->revert());
  EXPECT_EQ(e16_call_untyped(1), 2);
}

TEST(Function, OfSize0) {
  auto redirect = shunt::redirect("e16_sizeless", &add_100);
  ASSERT_TRUE(redirect) << redirect.error().message();
  EXPECT_EQ(e16_call_sizeless(1), 101);
  EXPECT_EQ(redirect->original()(1), 2);

  ASSERT_TRUE(redirect->revert());
  EXPECT_EQ(e16_call_sizeless(1), 2);
}

}  // namespace
