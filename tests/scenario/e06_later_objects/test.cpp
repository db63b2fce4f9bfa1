// e06, and what comes with it: objects that are loaded after a redirect was applied. Their slots lead to the replacement before the first
// of their constructors runs, whoever loads them; and when they are unloaded, nothing of them is kept or written.
//
// Shown to fail (each guard taken out, the test seen to fail, the guard put back):
//   MayComeAndGo…, MayFail…    engine.cpp, adopt_new(): drop_gone() is not called
//   AreNewOnes…                late_objects.cpp, drop_gone(): only what adopt() added is dropped
//   …WhereNobodyWatches        late_objects.cpp, is_another_loading(): false
//   MayFail…, MayBeLoaded…     object_table.cpp, refresh(): an object at the same place is the same, whatever its load
//   ChangeTheOriginal…         late_objects.cpp, adopt_object(): lead_originals() is not called
//   …OfAnotherNamespace        loader_watch.cpp, count_objects(): as if there were no other namespace
//   all but one                loader_watch.cpp, notice(): returns at once
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <iconv.h>
#include <pwd.h>
#include <shunt/shunt.hpp>

#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <thread>

extern "C" {
int e06_answer();
int e06_other();
int e06_take_seen();
int __nss_configure_lookup(const char *database, const char *services);
}

namespace {

std::string folder;
// Taken before anything is redirected: the test's own slots are, too.
void *const answer = dlsym(RTLD_DEFAULT, "e06_answer");

// AddressSanitizer does not bear RTLD_DEEPBIND.
#ifdef __SANITIZE_ADDRESS__
constexpr int kDeep = RTLD_LAZY;
#else
constexpr int kDeep = RTLD_LAZY | RTLD_DEEPBIND;
#endif

int two() { return 2; }
int three() { return 3; }
int twenty() { return 20; }

using Call = int (*)();

/// A plugin, loaded while this lives.
class Plugin {
 public:
  explicit Plugin(const char *name, int mode = RTLD_NOW)
      : handle_(dlopen((folder + "/libe06_" + name + ".so").c_str(), mode)) {
    EXPECT_NE(handle_, nullptr) << dlerror();
  }
  Plugin(const Plugin &) = delete;
  Plugin &operator=(const Plugin &) = delete;
  ~Plugin() { dlclose(handle_); }
  [[nodiscard]] int call(const char *function = "e06_call") const {
    return reinterpret_cast<Call>(dlsym(handle_, function))();
  }

 private:
  void *handle_;
};

shunt::Change redirect(const char *symbol, Call replacement, shunt::Options options = {}) {
  options.reach = shunt::Reach::slots;
  auto change = shunt::redirect(symbol, replacement, options);
  EXPECT_TRUE(change) << change.error().message();
  return std::move(*change);
}

TEST(LaterObjects, AreRedirectedAtTheNextRequestWhereNobodyWatches) {
  auto change = redirect("e06_answer", &two);
  std::optional<Plugin> plugin(std::in_place, "now");
  EXPECT_EQ(e06_take_seen(), 1);
  EXPECT_EQ(change.conflicts(), 0U);
  EXPECT_EQ(plugin->call(), 2);
  // Nobody tells that this is another one, at the same place.
  plugin.reset();
  plugin.emplace("now");
  EXPECT_EQ(e06_take_seen(), 1);
  EXPECT_EQ(change.conflicts(), 0U);
  EXPECT_EQ(plugin->call(), 2);
  const auto watched = shunt::watch_loads();  // for the life of the process, so this test comes first
  ASSERT_TRUE(watched) << watched.error().message();
}

TEST(LaterObjects, AreRedirectedBeforeTheirConstructors) {
  for (const int mode : {RTLD_NOW, RTLD_LAZY, RTLD_NOW | RTLD_GLOBAL, kDeep}) {
    for (const char *name : {"lazy", "now", "array", "init"}) {
      SCOPED_TRACE(std::string(name) + " " + std::to_string(mode));
      auto change = redirect("e06_answer", &two);
      const std::size_t slots = change.slots();
      {
        const Plugin plugin(name, mode);
        EXPECT_EQ(e06_take_seen(), 2);
        EXPECT_EQ(plugin.call(), 2);
        EXPECT_GT(change.slots(), slots);
        EXPECT_EQ(change.conflicts(), 0U);
        ASSERT_TRUE(change.revert());
        EXPECT_EQ(plugin.call(), 1);
      }
      const Plugin plugin(name, mode);
      EXPECT_EQ(e06_take_seen(), 1);
      EXPECT_EQ(plugin.call(), 1);
    }
  }
}

TEST(LaterObjects, AreRedirectedWithWhatTheyNeed) {
  auto change = redirect("e06_answer", &two);
  const Plugin plugin("top");
  EXPECT_EQ(e06_take_seen(), 23);  // the dependency's constructor, and its own
  EXPECT_EQ(plugin.call("e06_top"), 4);
  ASSERT_TRUE(change.revert());
  EXPECT_EQ(plugin.call("e06_top"), 2);
}

TEST(LaterObjects, WithoutInitializationAreFoundAtTheNextRequest) {
  auto change = redirect("e06_answer", &two);
  const Plugin plugin("silent");
  EXPECT_EQ(change.conflicts(), 0U);
  EXPECT_EQ(plugin.call(), 2);
  ASSERT_TRUE(change.revert());
  EXPECT_EQ(plugin.call(), 1);
}

TEST(LaterObjects, OfAnotherRedirectOrCallerAreLeftAlone) {
  auto other = redirect("e06_other", &twenty);
  auto named = redirect("e06_answer", &two, {.callers = {"*e06_now*", "e06_later_objects"}});
  auto excluded = redirect("e06_answer", &three, {.callers = {"*e06_*"}, .not_callers = {"*e06_now*", "*lazy*"}});
  const Plugin now("now"), lazy("lazy"), array("array");
  EXPECT_EQ(e06_take_seen(), 213);
  EXPECT_EQ(now.call(), 2);
  EXPECT_EQ(lazy.call(), 1);
  EXPECT_EQ(array.call(), 3);
  EXPECT_EQ(e06_other(), 20);
  EXPECT_EQ(e06_answer(), 3);  // by the program
}

TEST(LaterObjects, HaveLayersLikeOthers) {
  auto first = redirect("e06_answer", &two);
  auto second = redirect("e06_answer", &three);
  EXPECT_EQ(second.original(), reinterpret_cast<void *>(&two));
  {
    const Plugin plugin("now");
    EXPECT_EQ(e06_take_seen(), 3);
    EXPECT_EQ(second.original(), reinterpret_cast<void *>(&two));
    ASSERT_TRUE(first.revert());
    EXPECT_EQ(plugin.call(), 3);
    EXPECT_EQ(second.original(), answer);
    auto third = redirect("e06_answer", &two);
    EXPECT_EQ(plugin.call(), 2);
    ASSERT_TRUE(third.revert());
    EXPECT_EQ(plugin.call(), 3);
    ASSERT_TRUE(second.revert());
    EXPECT_EQ(plugin.call(), 1);
  }
}

/// A layer for everybody over one for named callers only: it covers the new object, the other does not.
TEST(LaterObjects, ChangeTheOriginalWhereALayerBelowDoesNotCoverThem) {
  const Plugin lazy("lazy");
  e06_take_seen();
  auto named = redirect("e06_answer", &two, {.callers = {"*e06_lazy*"}});
  auto all = redirect("e06_answer", &three, {.callers = {"*e06_*so"}});
  EXPECT_EQ(all.original(), reinterpret_cast<void *>(&two));
  const Plugin now("now");
  EXPECT_EQ(e06_take_seen(), 3);
  EXPECT_EQ(all.original(), answer);
}

TEST(LaterObjects, MayComeAndGoAtTheSameAddress) {
  auto change = redirect("e06_answer", &two);
  auto second = redirect("e06_answer", &three);
  const std::size_t slots = change.slots();
  for (int k = 0; k < 200; ++k) {
    const Plugin plugin(k % 2 == 0 ? "now" : "lazy", k % 3 == 0 ? RTLD_LAZY : RTLD_NOW);
    ASSERT_EQ(e06_take_seen(), 3);
    ASSERT_EQ(plugin.call(), 3);
  }
  EXPECT_EQ(change.conflicts(), 0U);
  EXPECT_EQ(change.slots(), slots);
  ASSERT_TRUE(second.revert());
  ASSERT_TRUE(change.revert());
  EXPECT_EQ(change.conflicts(), 0U);
}

TEST(LaterObjects, AreNewOnesWhereOneWasThatTheRedirectFound) {
  std::optional<Plugin> plugin(std::in_place, "now");
  e06_take_seen();
  auto change = redirect("e06_answer", &two);
  EXPECT_EQ(plugin->call(), 2);
  const std::size_t slots = change.slots();
  for (int k = 0; k < 20; ++k) {
    plugin.reset();
    plugin.emplace("now");
    ASSERT_EQ(e06_take_seen(), 2);
    ASSERT_EQ(plugin->call(), 2);
    ASSERT_EQ(change.slots(), slots);
  }
  ASSERT_TRUE(change.revert());
  EXPECT_EQ(change.conflicts(), 0U);
  EXPECT_EQ(plugin->call(), 1);
}

TEST(LaterObjects, AreSeenWhoeverLoadsThem) {
  auto change = redirect("e06_answer", &two);
  const iconv_t conversion = iconv_open("E06//", "UTF-8");
  EXPECT_NE(conversion, reinterpret_cast<iconv_t>(-1));
  EXPECT_EQ(e06_take_seen(), 2);
  iconv_close(conversion);
  __nss_configure_lookup("passwd", "e06");
  EXPECT_EQ(getpwnam("nobody-of-this-name"), nullptr);
  EXPECT_EQ(e06_take_seen(), 2);
}

/// The dynamic linker counts the objects of all namespaces together.
TEST(LaterObjects, AreRedirectedBesideObjectsOfAnotherNamespace) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer bears no second namespace";
#endif
  auto change = redirect("e06_answer", &two);
  for (int k = 0; k < 3; ++k) {
    void *const other = dlmopen(LM_ID_NEWLM, (folder + "/libe06_now.so").c_str(), RTLD_NOW);
    ASSERT_NE(other, nullptr) << dlerror();
    EXPECT_EQ(reinterpret_cast<Call>(dlsym(other, "e06_call"))(), 1);
    {
      const Plugin plugin("now");
      EXPECT_EQ(e06_take_seen(), 2);
      EXPECT_EQ(plugin.call(), 2);
    }
    dlclose(other);
    const Plugin plugin("now");
    EXPECT_EQ(e06_take_seen(), 2);
  }
}

TEST(LaterObjects, MayFailToLoad) {
  auto change = redirect("e06_answer", &two);
  for (int k = 0; k < 20; ++k) {
    EXPECT_EQ(dlopen((folder + "/gconv-modules").c_str(), RTLD_NOW), nullptr);
    const Plugin plugin("now");
    ASSERT_EQ(e06_take_seen(), 2);
  }
}

TEST(LaterObjects, MayBeLoadedWhileOthersAreRedirected) {
  std::atomic<bool> stop = false;
  std::thread loader([&] {
    while (!stop) {
      const Plugin plugin("now");
      const int seen = e06_take_seen();
      EXPECT_TRUE(seen == 1 || seen == 2) << seen;
    }
  });
  for (int k = 0; k < 300; ++k) {
    auto change = redirect("e06_answer", &two);
    auto other = redirect("e06_other", &twenty);
    EXPECT_EQ(change.conflicts(), 0U);
    ASSERT_TRUE(change.revert());
    EXPECT_EQ(change.conflicts(), 0U);
  }
  stop = true;
  loader.join();
}

}  // namespace

int main(int argc, char **argv) {
  testing::InitGoogleTest(&argc, argv);
  folder = argc > 1 ? argv[1] : ".";
  const std::string place = folder + "/gconv";
  std::ofstream(folder + "/gconv-modules")
      << "module E06// INTERNAL " << folder << "/gconv_e06 1\nmodule INTERNAL E06// " << folder << "/gconv_e06 1\n";
  setenv("GCONV_PATH", folder.c_str(), 1);
  return RUN_ALL_TESTS();
}
