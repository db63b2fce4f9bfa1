// e14: where the dynamic linker looks for a function differs from object to object. The original is the function that
// this very slot leads to, or would; where that cannot be told from outside, the redirect is refused.
//
// Shown to fail: with Resolver::search() (lib/engine) always preferring the program's objects, ASlotBoundAlready… gets
// the wrong original and ALazySlot… is granted; with classify() not asking the slot first either, OwnFirst… gets the
// wrong one too; with search() not looking into dependencies, APluginsOwn… fails; with classify() not leaving weak
// imports of nobody alone, AWeakImport… fails; with coverage.cpp not telling of calls inside the provider,
// CallsThatTheLinkerTied… fails; with Planner::push() giving out the slot's old value, RtldNext… fails.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <shunt/shunt.hpp>

#include <string>

extern "C" {
int which();
int chained();
int replacement_of_chained();
int symbolic_one();
int call_symbolic_one();
int protected_one();
int call_protected_one();
int call_maybe_weakly();
}

namespace {

int our_function() { return 11; }

struct Library {
  Library(const char *name, int flags) : handle(dlopen(name, flags)) { EXPECT_NE(handle, nullptr) << dlerror(); }
  Library(const Library &) = delete;
  Library &operator=(const Library &) = delete;
  ~Library() { dlclose(handle); }
  [[nodiscard]] int call(const char *name) const { return reinterpret_cast<int (*)()>(dlsym(handle, name))(); }
  void *handle;
};

void expect_original(const char *symbol, const Library &library, const char *caller, const char *call, int original) {
  auto change = shunt::redirect(symbol, &our_function, {.callers = {caller}});
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(change->original()(), original);
  EXPECT_EQ(library.call(call), 11);
  ASSERT_TRUE(change->revert());
  EXPECT_EQ(library.call(call), original);
}

// ---- RTLD_DEEPBIND, RTLD_LOCAL

TEST(e14_scopes, OwnFirstWithDeepbind) {
  ASSERT_EQ(which(), 1);
  const Library plugin("libe14_plugin.so", RTLD_NOW | RTLD_DEEPBIND);
  expect_original("which", plugin, "libe14_plugin*", "call_which", 2);
}

TEST(e14_scopes, ALazySlotThatMayLeadToEitherIsRefusedUntilItIsBound) {
  const Library plugin("libe14_plugin.so", RTLD_LAZY | RTLD_DEEPBIND);

  const auto refused = shunt::redirect("which", &our_function, {.callers = {"libe14_plugin*"}});

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), shunt::Code::original_unresolved) << refused.error().message();
  EXPECT_NE(std::string(refused.error().object()).find("libe14_plugin.so"), std::string::npos);
  EXPECT_STREQ(refused.error().symbol(), "which");
  EXPECT_NE(refused.error().address(), 0U);
  EXPECT_NE(std::string(refused.error().message()).find("libe14_first"), std::string::npos)
      << refused.error().message();
  EXPECT_NE(std::string(refused.error().message()).find("libe14_own"), std::string::npos) << refused.error().message();

  ASSERT_EQ(plugin.call("call_which"), 2);
  expect_original("which", plugin, "libe14_plugin*", "call_which", 2);
}

TEST(e14_scopes, ASlotBoundAlreadyShowsWhereTheOthersWillLead) {
  {
    const Library plugin("libe14_plugin_seen.so", RTLD_LAZY | RTLD_DEEPBIND);
    expect_original("which", plugin, "libe14_plugin_seen*", "call_which", 2);
  }
  const Library plugin("libe14_plugin_seen.so", RTLD_LAZY);
  expect_original("which", plugin, "libe14_plugin_seen*", "call_which", 1);
}

TEST(e14_scopes, APluginsOwnDependencyIsFoundThoughItIsLocal) {
  const Library plugin("libe14_plugin.so", RTLD_LAZY | RTLD_LOCAL);
  ASSERT_EQ(dlsym(RTLD_DEFAULT, "only_here"), nullptr);
  expect_original("only_here", plugin, "libe14_plugin*", "call_only_here", 3);
}

// ---- namespaces of dlmopen()

/// It has its own libraries, whose calls are not the program's: left alone, whenever it was loaded.
TEST(e14_scopes, ANamespaceOfItsOwnIsLeftAlone) {
  ASSERT_EQ(which(), 1);
  void *const before = dlmopen(LM_ID_NEWLM, "libe14_plugin.so", RTLD_NOW);
  ASSERT_NE(before, nullptr) << dlerror();
  const auto call = [](void *plugin) { return reinterpret_cast<int (*)()>(dlsym(plugin, "call_which"))(); };
  ASSERT_EQ(call(before), 2);

  auto change = shunt::redirect("which", &our_function);

  ASSERT_TRUE(change) << change.error().message();
  const std::size_t slots = change->slots();
  EXPECT_EQ(which(), 11);
  void *const after = dlmopen(LM_ID_NEWLM, "libe14_plugin.so", RTLD_NOW);
  ASSERT_NE(after, nullptr) << dlerror();
  EXPECT_EQ(change->conflicts(), 0U);
  EXPECT_EQ(change->slots(), slots);
  EXPECT_EQ(call(before), 2);
  EXPECT_EQ(call(after), 2);
  ASSERT_EQ(dlclose(before), 0);
  ASSERT_TRUE(change->revert());
  EXPECT_EQ(change->conflicts(), 0U);
  EXPECT_EQ(which(), 1);
  EXPECT_EQ(call(after), 2);
  ASSERT_EQ(dlclose(after), 0);
}

// ---- dlsym(RTLD_NEXT)

TEST(e14_scopes, RtldNextFindsTheSameAsWithoutUs) {
  ASSERT_EQ(chained(), 11);

  auto change = shunt::redirect("chained", &replacement_of_chained);

  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(change->original()(), 11) << "the preloaded one, which is what the slot led to";
  EXPECT_EQ(chained(), 101) << "the replacement's RTLD_NEXT";
}

// ---- bound by the linker

TEST(e14_scopes, CallsThatTheLinkerTiedAreNamedAndTheOthersReached) {
  struct Case {
    const char *symbol, *library;
    int (*call)(), (*call_inside)();
  };
  for (const Case &one : {Case{"symbolic_one", "libe14_symbolic", &symbolic_one, &call_symbolic_one},
                          Case{"protected_one", "libe14_protected", &protected_one, &call_protected_one}}) {
    auto transaction = shunt::Transaction::create();
    ASSERT_TRUE(transaction->add(one.symbol, &our_function, {.reach = shunt::Reach::slots}));
    const auto plan = transaction->plan();
    ASSERT_TRUE(plan) << plan.error().message();
    EXPECT_NE(std::string(plan->coverage()).find("go through no slot"), std::string::npos) << plan->coverage();
    const auto change = plan->commit();
    ASSERT_TRUE(change) << change.error().message();
    EXPECT_EQ(reinterpret_cast<int (*)()>(change->original())(), 1);
    const auto inside = shunt::redirect(one.symbol, &our_function, {.callers = {std::string(one.library) + "*"}});
    ASSERT_FALSE(inside);
    EXPECT_EQ(inside.error().code(), shunt::Code::no_caller) << inside.error().message();
    EXPECT_EQ(one.call_inside(), 1);
  }
  EXPECT_EQ(symbolic_one(), 1);
  EXPECT_EQ(protected_one(), 1);
}

// ---- weak

TEST(e14_scopes, AWeakImportOfNobodyIsLeftAloneAndNamed) {
  ASSERT_EQ(call_maybe_weakly(), -1);
  const auto none = shunt::redirect("maybe", &our_function);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), shunt::Code::no_caller) << none.error().message();
  EXPECT_NE(std::string(none.error().object()).find("libe14_weak"), std::string::npos);

  const Library taker("libe14_taker.so", RTLD_NOW);
  auto transaction = shunt::Transaction::create();
  ASSERT_TRUE(transaction->add("maybe", &our_function));
  const auto plan = transaction->plan();
  ASSERT_TRUE(plan) << plan.error().message();
  EXPECT_EQ(plan->slots(), 1U);
  EXPECT_NE(std::string(plan->coverage()).find("weak imports that nobody provides"), std::string::npos)
      << plan->coverage();
  const auto change = plan->commit();
  ASSERT_TRUE(change);
  EXPECT_EQ(taker.call("call_maybe"), 11);
  EXPECT_EQ(call_maybe_weakly(), -1);
}

}  // namespace
