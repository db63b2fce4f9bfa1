// Two versions of one function in one process are two functions: a redirect is about one of them. Which of them a slot means
// is known by what it holds, or, while it is not yet bound, by the version that the import asks for.
//
// Shown to fail (each guard of lib/ taken out, the test seen to fail, the guard put back):
//   WithoutAVersion…   planner.cpp, take_function(): does not report several_functions
//   WithAVersion…      elf/symbols.cpp, find_definition(): takes any version (not_yet_bound);
//                      planner.cpp, classify(): does not leave other_version alone
//   AnUnknownVersion…  planner.cpp, explain_nothing(): other_version is not looked at
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <shunt/shunt.hpp>

#include <cstdlib>
#include <string>

#include "../memory_of.hpp"

namespace {

using Function = int();
void *original = nullptr;
int original_and_100() { return reinterpret_cast<Function *>(__atomic_load_n(&original, __ATOMIC_ACQUIRE))() + 100; }

/// The two callers, loaded afresh for each test; the parameter says whether they have called, and so been bound.
class Versions : public testing::TestWithParam<bool> {
 protected:
  struct Caller {
    void *library = nullptr;
    Function *call = nullptr;
    void load(const std::string &name) {
      const char *folder = std::getenv("E04_CALLERS");
      ASSERT_NE(folder, nullptr) << "run by meson test, which sets E04_CALLERS";
      library = dlopen((folder + ("/lib" + name + ".so")).c_str(), RTLD_LAZY | RTLD_LOCAL);
      ASSERT_NE(library, nullptr) << dlerror();
      call = reinterpret_cast<Function *>(dlsym(library, "call"));
    }
    ~Caller() {
      if (library != nullptr) dlclose(library);
    }
  };
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(old_.load("e04_old"));
    ASSERT_NO_FATAL_FAILURE(new_.load("e04_new"));
    if (!GetParam()) return;
    ASSERT_EQ(old_.call(), 1);
    ASSERT_EQ(new_.call(), 2);
  }
  static auto redirect(const char *version) {
    return shunt::redirect("e04_function", &original_and_100, {.version = version, .original = &original});
  }
  /// What the version's definition in the provider is.
  void *function(const char *version) const { return dlvsym(new_.library, "e04_function", version); }

  Caller old_, new_;
};

TEST_P(Versions, WithoutAVersionARedirectIsRefusedAndNothingChanges) {
  const scenario::Pages before = scenario::memory_of("libe04_");

  const auto refused = redirect("");

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), shunt::Code::several_functions) << refused.error().message();
  EXPECT_STREQ(refused.error().symbol(), "e04_function");
  EXPECT_EQ(scenario::memory_of("libe04_"), before);
}

TEST_P(Versions, WithAVersionTheOldHasItsOwnCallersAndOriginal) {
  const auto redirected = redirect("V1");
  ASSERT_TRUE(redirected) << redirected.error().message();
  EXPECT_EQ(redirected->slots(), 1U);
  EXPECT_EQ(redirected->shunt::Change::original(), function("V1"));

  EXPECT_EQ(old_.call(), 101);
  EXPECT_EQ(old_.call(), 101);
  EXPECT_EQ(new_.call(), 2);
}

TEST_P(Versions, WithAVersionTheNewHasItsOwnCallersAndOriginal) {
  const auto redirected = redirect("V2");
  ASSERT_TRUE(redirected) << redirected.error().message();
  EXPECT_EQ(redirected->slots(), 1U);
  EXPECT_EQ(redirected->shunt::Change::original(), function("V2"));

  EXPECT_EQ(new_.call(), 102);
  EXPECT_EQ(new_.call(), 102);
  EXPECT_EQ(old_.call(), 1);
}

TEST_P(Versions, AnUnknownVersionMatchesNothing) {
  const auto refused = redirect("V3");

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), shunt::Code::no_provider) << refused.error().message();
}

/// Nobody calls either. (Without find_definitions() one of them was taken.)
TEST(versions, TwoVersionsAreTwoEntries) {
  void *const provider = dlopen("libe04_provider.so", RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(provider, nullptr) << dlerror();
  const auto refused = shunt::redirect("e04_function", &original_and_100, {.reach = shunt::Reach::entry});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), shunt::Code::several_functions) << refused.error().message();
  dlclose(provider);
}

INSTANTIATE_TEST_SUITE_P(Callers, Versions, testing::Bool(),
                         [](const auto &is_bound) { return is_bound.param ? "bound" : "not_yet_bound"; });

}  // namespace
