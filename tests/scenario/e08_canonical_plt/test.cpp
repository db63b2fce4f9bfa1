// A program that is not position independent has the address of its own PLT entry built in as `&function`. So that the
// address is one and the same everywhere, ld.so gives that entry to every library that asks for the address (psABI, "Function
// Addresses"). Such a slot is left alone: a call through the pointer goes on through the program's own slot, which is
// redirected, and pointers go on comparing equal.
//
// Shown to fail (each guard of lib/ taken out, the test seen to fail, the guard put back):
//   PointersStayEqual…, CoverageSays…   planner.cpp, classify(): no canonical case; the library's slot is written
//   TheOriginalIsTheFunction…           elf/symbols.cpp, is_offered(): the program's symbol, undefined but with a value, passes
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <shunt/shunt.hpp>

#include <string>

extern "C" {
int e08_function(int x);         // x + 1
int e08_call(int x);             // the library's call
int (*e08_address())(int);       // the library's &e08_function
}

namespace {

using Function = int(int);
int add_100(int x) { return x + 100; }

/// As the program sees it; volatile, since a compiler takes equality for granted.
Function *program_address() {
  Function *volatile address = &e08_function;
  return address;
}

/// The function itself, past every PLT.
Function *function() {
  return reinterpret_cast<Function *>(dlsym(dlopen("libe08_provider.so", RTLD_NOLOAD | RTLD_LAZY), "e08_function"));
}

TEST(CanonicalPlt, TheProgramsPltEntryIsTheAddressEverywhere) {
  ASSERT_NE(program_address(), function()) << "this test needs a program that is not position independent";
  ASSERT_EQ(program_address(), e08_address());
}

TEST(CanonicalPlt, PointersStayEqualAndEveryCallIsReached) {
  auto redirect = shunt::redirect("e08_function", &add_100);
  ASSERT_TRUE(redirect) << redirect.error().message();

  EXPECT_EQ(program_address(), e08_address());
  EXPECT_EQ(e08_function(1), 101);
  EXPECT_EQ(program_address()(1), 101);
  EXPECT_EQ(e08_call(1), 101);
  EXPECT_EQ(e08_address()(1), 101);

  ASSERT_TRUE(redirect->revert());
  EXPECT_EQ(program_address(), e08_address());
  EXPECT_EQ(e08_function(1), 2);
  EXPECT_EQ(e08_call(1), 2);
  EXPECT_EQ(e08_address()(1), 2);
}

TEST(CanonicalPlt, TheOriginalIsTheFunctionAndNotThePltEntry) {
  const auto redirect = shunt::redirect("e08_function", &add_100);
  ASSERT_TRUE(redirect) << redirect.error().message();

  EXPECT_EQ(redirect->original(), function());
  EXPECT_EQ(redirect->original()(1), 2);
}

TEST(CanonicalPlt, CoverageSaysWhyTheSlotIsLeftAlone) {
  auto transaction = shunt::Transaction::create();
  ASSERT_TRUE(transaction->add("e08_function", &add_100));
  const auto plan = transaction->plan();
  ASSERT_TRUE(plan) << plan.error().message();

  EXPECT_NE(std::string(plan->coverage()).find("the program's own PLT entry"), std::string::npos) << plan->coverage();
}

}  // namespace
