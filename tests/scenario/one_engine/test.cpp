// Law 11: one engine in a process. The program brings a copy of shunt of its own (linked statically) and is started with the
// shim, which brings another and has applied a patch before main(). The program's redirect is then a layer over the shim's.
//
// Shown to fail: with choose_table() in lib/api/exports.cpp answering &shunt_own_table, the plan takes the shim's patch for
// another tool's hook, and the original is the real function.
#include <gtest/gtest.h>

#include <string>

#include <shunt/shunt.hpp>

extern "C" int answer();

namespace {

int three() { return 3; }

TEST(OneEngine, ProgramsRedirectIsALayerOverTheShims) {
  ASSERT_EQ(answer(), 2) << "the shim has not applied its patch";

  auto transaction = shunt::Transaction::create();
  ASSERT_TRUE(transaction->add("answer", &three));
  const auto plan = transaction->plan();
  ASSERT_TRUE(plan) << plan.error().message();
  EXPECT_NE(std::string(plan->coverage()).find("a layer of shunt below"), std::string::npos) << plan->coverage();

  auto change = plan->commit();
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(answer(), 3);
  EXPECT_EQ(reinterpret_cast<int (*)()>(change->original())(), 2);
  ASSERT_TRUE(change->revert());
  EXPECT_EQ(answer(), 2);
}

}  // namespace
