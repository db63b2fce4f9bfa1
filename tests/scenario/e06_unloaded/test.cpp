// e06: the caller and the provider of a redirect are closed, and the redirect is reverted, in every order; the objects are loaded again, at
// the same address or another. Nothing is written where they were, nothing keeps them, and nothing of the old redirect is taken for the
// new object's.
//
// Shown to fail:
//   engine.cpp, see_which_are_loaded(): every object counts as loaded   EveryOrder dies (it writes where nothing is mapped)
//   late_objects.cpp, drop_gone() does nothing                          EveryOrder sees conflicts
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <shunt/shunt.hpp>

#include <algorithm>
#include <string>
#include <vector>

namespace {

std::string folder;

using Call = int (*)();
int two() { return 2; }
int three() { return 3; }

class Library {
 public:
  explicit Library(std::string name) : path_(folder + "/" + name) {}
  Library(const Library &) = delete;
  Library &operator=(const Library &) = delete;
  ~Library() { close(); }
  void open() {
    handle_ = dlopen(path_.c_str(), RTLD_LAZY);
    ASSERT_NE(handle_, nullptr) << dlerror();
  }
  void close() {
    if (handle_ != nullptr) {
      EXPECT_EQ(dlclose(handle_), 0);
    }
    handle_ = nullptr;
  }
  [[nodiscard]] bool is_open() const { return handle_ != nullptr; }
  [[nodiscard]] bool is_loaded() const {
    void *const handle = dlopen(path_.c_str(), RTLD_LAZY | RTLD_NOLOAD);
    if (handle != nullptr) dlclose(handle);
    return handle != nullptr;
  }
  [[nodiscard]] Call get(const char *name) const { return reinterpret_cast<Call>(dlsym(handle_, name)); }

 private:
  std::string path_;
  void *handle_ = nullptr;
};

struct Way {
  const char *name, *caller;
  shunt::Options options;
  bool with_second_layer, is_bound_before;
};

void PrintTo(const Way &way, std::ostream *out) { *out << way.name; }

class Unloaded : public testing::TestWithParam<Way> {};
INSTANTIATE_TEST_SUITE_P(
    e06, Unloaded,
    testing::Values(Way{"LazySlot", "un_lazy.so", {.reach = shunt::Reach::slots}, false, false},
                    Way{"LazySlotBound", "un_lazy.so", {.reach = shunt::Reach::slots}, false, true},
                    Way{"SlotNow", "un_now.so", {.reach = shunt::Reach::slots}, false, true},
                    Way{"Layers", "un_lazy.so", {.reach = shunt::Reach::slots}, true, false},
                    Way{"OneCaller", "un_now.so", {.callers = {"un_now.so"}}, true, true},
                    Way{"Entry", "un_now.so", {.reach = shunt::Reach::entry}, false, true},
                    Way{"EntryLayers", "un_lazy.so", {.reach = shunt::Reach::entry}, true, true},
                    Way{"Dlsym", "un_lazy.so", {.reach = shunt::Reach::slots, .dlsym = true}, true, true}),
    [](const auto &of) { return of.param.name; });

/// What a call gives now: the replacement for as long as it stands.
void expect_answer(const Library &caller, int answer) {
  if (!caller.is_open()) return;
  EXPECT_EQ(caller.get("un_call")(), answer);
}

TEST_P(Unloaded, EveryOrder) {
  const Way &way = GetParam();
  Library caller(way.caller), provider("libun_provider.so");
  std::vector<int> order = {0, 1, 2, 3};
  do {
    SCOPED_TRACE(std::to_string(order[0]) + std::to_string(order[1]) + std::to_string(order[2]) +
                 std::to_string(order[3]));
    provider.open();
    caller.open();
    if (way.is_bound_before) {
      ASSERT_EQ(caller.get("un_call")(), 1);
    }
    auto change = shunt::redirect("un_answer", &two, way.options);
    ASSERT_TRUE(change) << change.error().message();
    auto second = way.with_second_layer ? shunt::redirect("un_answer", &three, way.options)
                                        : shunt::redirect("dlerror", &two, {.reach = shunt::Reach::slots});
    ASSERT_TRUE(second) << second.error().message();
    const auto answer = [&] {
      return way.with_second_layer && second->is_applied() ? 3 : change->is_applied() ? 2 : 1;
    };
    expect_answer(caller, answer());
    for (const int step : order) {
      switch (step) {
        case 0:
          caller.close();
          break;
        case 1:
          provider.close();
          break;
        case 2:
          ASSERT_TRUE(change->revert());
          EXPECT_EQ(change->conflicts(), 0U);
          break;
        case 3:
          ASSERT_TRUE(second->revert());
          EXPECT_EQ(second->conflicts(), 0U);
          break;
      }
      EXPECT_EQ(provider.is_loaded(), caller.is_open() || provider.is_open());
      EXPECT_EQ(change->conflicts(), 0U);
      EXPECT_EQ(second->conflicts(), 0U);
      expect_answer(caller, answer());
    }
  } while (std::next_permutation(order.begin(), order.end()));
}

/// While the redirect stands, everything goes and comes again. At the same address it may be taken for what it was, or not; either way it is
/// called by everybody alike, and the revert leaves nothing.
TEST_P(Unloaded, AndLoadedAgain) {
  const Way &way = GetParam();
  Library caller(way.caller), provider("libun_provider.so");
  for (int k = 0; k < 20; ++k) {
    provider.open();
    caller.open();
    auto change = shunt::redirect("un_answer", &two, way.options);
    ASSERT_TRUE(change) << change.error().message();
    expect_answer(caller, 2);
    caller.close();
    provider.close();
    EXPECT_FALSE(provider.is_loaded());
    k % 2 == 0 ? provider.open() : caller.open();
    k % 2 == 0 ? caller.open() : provider.open();
    EXPECT_EQ(change->conflicts(), 0U);
    const int answer = caller.get("un_call")();
    EXPECT_TRUE(answer == 1 || answer == 2) << answer;
    const auto over = shunt::redirect("un_answer", &three, way.options);
    ASSERT_TRUE(over) << over.error().message();
    expect_answer(caller, 3);
    ASSERT_TRUE(change->revert());
    expect_answer(caller, 3);
    EXPECT_EQ(over->conflicts(), 0U);
    caller.close();
    provider.close();
    EXPECT_FALSE(provider.is_loaded());
  }
}

}  // namespace

int main(int argc, char **argv) {
  testing::InitGoogleTest(&argc, argv);
  folder = argc > 1 ? argv[1] : ".";
  // Else an object that comes again at the same address between two questions is the same, as far as can be told.
  if (const auto watched = shunt::watch_loads(); !watched) return 1;
  return RUN_ALL_TESTS();
}
