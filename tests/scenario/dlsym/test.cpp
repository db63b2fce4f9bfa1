// The option `dlsym`: dlsym() and dlvsym() answer with the replacement exactly where they would answer with the function that is
// redirected, whoever asks and however. So every question is asked twice, without the redirect and with it, by every object: by the
// program, by libraries in front of the provider and behind it, by plugins and what they brought along. The answers of the dynamic linker
// are what is right.
//
// Shown to fail (each guard of lib/engine taken out, the test seen to fail, the guard put back):
//   dlsym_answers.cpp, look()    the filter; replaces(); binds_symbolically(); what came with the caller; RTLD_NEXT behind the caller, or
//                                of the program where nothing has the name; is_of() without versions
//   dlsym_answers.cpp, find()    any answer for the function's; scope unknown, or own first, as if the program came first; keep()
//   dlsym_answers.cpp, answer()  errno; dlerror(). publish(): frees though there are readers (a crash in IsTheOldOrTheNew…)
//   dlsym_answers.cpp            for_each() oldest first; lead_back() does nothing (GoesOnToOtherLayers…)
//   dlsym_scope.cpp              in_list_of() begins with the object itself, not with what brought it in
//   resolver.cpp                 scope_seen_in() takes a redirected slot for what it holds
//   layers.hpp                   is_active() of a redirect without slots; planner.cpp: several functions
//   engine.cpp                   the slots of dlsym stay led to shunt after the last revert, or after a failure; revert_answering()
//                                goes on answering
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <shunt/shunt.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "../child.hpp"
#include "../evidence.hpp"

extern "C" {
int ds_answer();
int ds_wrapped();
int ds_chosen();
int call_ds_answer();
extern void *ds_seen;
void *wrap_dlsym(void *, const char *);
void *wrap_dlvsym(void *, const char *, const char *);
void *caller_dlsym(void *, const char *);
void *caller_dlvsym(void *, const char *, const char *);
}

namespace {

std::string folder;

using Dlsym = void *(*)(void *, const char *);
using Dlvsym = void *(*)(void *, const char *, const char *);
using Call = int (*)();

// Set before anything is redirected: the test's own slots are, too, and `&dlsym` is one.
Dlsym real_dlsym;

int twenty() { return 20; }
int thirty() { return 30; }
int forty() { return 40; }
void *address_of(Call function) { return reinterpret_cast<void *>(function); }

#if defined(__clang__)
#define AS_IT_IS __attribute__((noinline, optnone))
#else
#define AS_IT_IS __attribute__((noipa))
#endif
AS_IT_IS void *kept(void *answer) { return answer; }
void *test_dlsym(void *handle, const char *name) { return kept(dlsym(handle, name)); }
void *test_dlvsym(void *handle, const char *name, const char *version) { return kept(dlvsym(handle, name, version)); }

class Library {
 public:
  explicit Library(const std::string &name, int mode = RTLD_NOW)
      : handle_(dlopen((folder + "/" + name).c_str(), mode)) {
    EXPECT_NE(handle_, nullptr) << dlerror();
  }
  Library(const Library &) = delete;
  Library &operator=(const Library &) = delete;
  ~Library() { dlclose(handle_); }
  [[nodiscard]] void *handle() const { return handle_; }
  template <class Function>
  [[nodiscard]] Function get(const std::string &name) const {
    return reinterpret_cast<Function>(real_dlsym(handle_, name.c_str()));
  }

 private:
  void *handle_;
};

struct Asker {
  std::string name;
  Dlsym by_name;
  Dlvsym by_version;
};

Asker asker_in(const Library &library, const std::string &name) {
  return {name, library.get<Dlsym>(name + "_dlsym"), library.get<Dlvsym>(name + "_dlvsym")};
}

const Asker kTest = {"test", &test_dlsym, &test_dlvsym}, kWrap = {"wrap", &wrap_dlsym, &wrap_dlvsym},
            kCaller = {"caller", &caller_dlsym, &caller_dlvsym};

struct Handle {
  std::string name;
  void *handle;
};

/// What dlsym() said: the answer, or its error.
struct Said {
  std::string asked;
  std::string asker;
  void *answer;
  std::string error;
  bool operator==(const Said &) const = default;
};

/// Every name, from every object, by every handle, with and without versions.
class Questions {
 public:
  std::vector<Asker> askers = {kTest, kWrap, kCaller};
  std::vector<Handle> handles = {
      {"default", RTLD_DEFAULT}, {"next", RTLD_NEXT}, {"program", dlopen(nullptr, RTLD_LAZY)}};
  std::vector<std::string> names = {"ds_answer",    "ds_wrapped",         "ds_both",      "ds_deep", "ds_only_here",
                                    "ds_next_here", "ds_global",          "ds_versioned", "ds_same", "ds_chosen",
                                    "ds_variable",  "ds_nobody_has_this", "dlsym_nobody", ""};

  [[nodiscard]] std::vector<Said> ask() const {
    std::vector<Said> all;
    for (const Asker &asker : askers) {
      for (const Handle &handle : handles) {
        for (const std::string &name : names) {
          const std::string asked = asker.name + ": " + handle.name + ", " + name;
          all.push_back(said(asked, asker, [&] { return asker.by_name(handle.handle, name.c_str()); }));
          for (const char *version : {"DS_1", "DS_2", "DS_3"})
            all.push_back(said(asked + "@" + version, asker,
                               [&] { return asker.by_version(handle.handle, name.c_str(), version); }));
        }
      }
    }
    return all;
  }

 private:
  static Said said(const std::string &asked, const Asker &asker, const std::function<void *()> &ask) {
    errno = 12345;
    void *const answer = ask();
    const int number = errno;
    const char *const error = dlerror();
    EXPECT_TRUE(answer == nullptr || number == 12345) << asked;
    return {asked, asker.name, answer, error != nullptr ? error : ""};
  }
};

/// Everything is as it was, but that `function` has become `replacement` for those askers that `is_chosen` names.
void expect_replaced(
    const std::vector<Said> &before, const std::vector<Said> &now, void *function, void *replacement,
    const std::function<bool(const Said &)> &is_chosen = [](const Said &) { return true; }) {
  ASSERT_EQ(before.size(), now.size());
  std::size_t replaced = 0;
  for (std::size_t k = 0; k < now.size(); ++k) {
    const bool is_it = before[k].answer == function && is_chosen(before[k]);
    EXPECT_EQ(now[k].answer, is_it ? replacement : before[k].answer) << now[k].asked;
    EXPECT_EQ(now[k].error, before[k].error) << now[k].asked;
    replaced += is_it ? 1 : 0;
  }
  EXPECT_GT(replaced, 0U) << "no question was about the function";
}

/// Asks everything without the redirect, with it, and after its revert.
void expect_all(
    const Questions &questions, const char *symbol, void *function, const shunt::Options &options = {},
    const std::function<bool(const Said &)> &is_chosen = [](const Said &) { return true; }) {
  shunt::Options asking = options;
  asking.dlsym = true;
  asking.reach = shunt::Reach::slots;
  const std::vector<Said> before = questions.ask();
  auto change = shunt::redirect(symbol, &twenty, asking);
  ASSERT_TRUE(change) << change.error().message();
  expect_replaced(before, questions.ask(), function, address_of(&twenty), is_chosen);
  EXPECT_EQ(change->conflicts(), 0U);
  ASSERT_TRUE(change->revert());
  EXPECT_EQ(questions.ask(), before);
}

void *in_provider(const char *name) { return real_dlsym(dlopen("libds_provider.so", RTLD_NOW | RTLD_NOLOAD), name); }

// ---- who asks, and how

TEST(Dlsym, AnswersWhereTheFunctionWouldBeTheAnswer) {
  ASSERT_EQ(ds_answer() + call_ds_answer(), 2);
  expect_all(Questions(), "ds_answer", in_provider("ds_answer"));
}

TEST(Dlsym, OfTheNextOneIsRightForTheObjectInFrontOfIt) {
  // The wrapper's is what slots lead to; the wrapped one is what RTLD_NEXT finds from the wrapper.
  void *const wrapped = in_provider("ds_wrapped"), *const wrapper = real_dlsym(RTLD_DEFAULT, "ds_wrapped");
  ASSERT_NE(wrapped, wrapper);
  expect_all(Questions(), "ds_wrapped", wrapper);
  expect_all(Questions(), "ds_wrapped", wrapped, {.provider = "libds_provider.so"});

  auto change = shunt::redirect("ds_wrapped", &twenty,
                                {.provider = "libds_provider.so", .reach = shunt::Reach::slots, .dlsym = true});
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(ds_wrapped(), 30) << "through the wrapper";
  EXPECT_EQ(change->slots(), 0U);
}

TEST(Dlsym, OfAPluginIsWhatThePluginWouldFind) {
  for (const int mode : {RTLD_NOW, RTLD_LAZY, RTLD_NOW | RTLD_GLOBAL, RTLD_LAZY | RTLD_DEEPBIND}) {
    SCOPED_TRACE(mode);
    in_child([mode] {  // what RTLD_DEFAULT has found stays loaded
      const Library plugin("ds_plugin.so", mode), showing("ds_showing.so", mode), symbolic("ds_symbolic.so", mode);
      Questions questions;
      for (const char *name : {"plugin", "brought"}) questions.askers.push_back(asker_in(plugin, name));
      questions.askers.push_back(asker_in(showing, "showing"));
      questions.askers.push_back(asker_in(symbolic, "symbolic"));
      for (const Library *one : {&plugin, &showing, &symbolic}) questions.handles.push_back({"handle", one->handle()});
      void *const brought = dlopen("libds_brought.so", RTLD_NOW | RTLD_NOLOAD);
      ASSERT_NE(brought, nullptr);
      questions.handles.push_back({"brought", brought});

      expect_all(questions, "ds_answer", in_provider("ds_answer"));
      expect_all(questions, "ds_only_here", real_dlsym(brought, "ds_only_here"), {.provider = "libds_brought.so"});
      expect_all(questions, "ds_next_here", real_dlsym(brought, "ds_next_here"), {.provider = "libds_brought.so"});
      expect_all(questions, "ds_next_here", plugin.get<void *>("ds_next_here"), {.provider = "ds_plugin.so"});
      expect_all(questions, "ds_both", symbolic.get<void *>("ds_both"), {.provider = "ds_symbolic.so"});
      dlclose(brought);
    });
  }
}

/// Which of the two comes first for an object that was loaded with RTLD_DEEPBIND is seen by a slot of it, or not at all. Then its question is
/// answered as without the redirect.
TEST(Dlsym, OfANameThatBothHaveFollowsWhatASlotShows) {
  for (const int mode : {RTLD_NOW, RTLD_NOW | RTLD_DEEPBIND}) {
    SCOPED_TRACE(mode);
    in_child([mode] {  // what RTLD_DEFAULT has found stays loaded
      const Library plugin("ds_plugin.so", mode), showing("ds_showing.so", mode), symbolic("ds_symbolic.so", mode);
      Questions questions;
      for (const char *name : {"plugin", "brought"}) questions.askers.push_back(asker_in(plugin, name));
      questions.askers.push_back(asker_in(showing, "showing"));
      questions.askers.push_back(asker_in(symbolic, "symbolic"));
      const auto can_be_told = [](const Said &said) {
        const bool is_silent = said.asker == "plugin" || said.asker == "brought";
        const bool is_version = said.asked.find('@') != std::string::npos;  // only the program has
        return !is_silent || is_version || said.asked.find(": default, ") == std::string::npos;
      };
      expect_all(questions, "ds_both", in_provider("ds_both"), {.provider = "libds_provider.so"}, can_be_told);
      void *const brought = dlopen("libds_brought.so", RTLD_NOW | RTLD_NOLOAD);
      questions.handles.push_back({"brought", brought});
      expect_all(questions, "ds_both", real_dlsym(brought, "ds_both"), {.provider = "libds_brought.so"}, can_be_told);
      dlclose(brought);
    });
  }
}

TEST(Dlsym, OfAnObjectThatIsSeenByAllKeepsItLoadedAsTheDynamicLinkerWould) {
  in_child([] {
    void *const handle = dlopen((folder + "/ds_global.so").c_str(), RTLD_NOW | RTLD_GLOBAL);
    ASSERT_NE(handle, nullptr);
    void *const function = real_dlsym(handle, "ds_global");
    auto change = shunt::redirect("ds_global", &twenty, {.reach = shunt::Reach::slots, .dlsym = true});
    ASSERT_TRUE(change) << change.error().message();
    EXPECT_EQ(change->slots(), 0U);
    EXPECT_EQ(caller_dlsym(RTLD_DEFAULT, "ds_global"), address_of(&twenty));
    EXPECT_EQ(caller_dlsym(RTLD_NEXT, "ds_global"), address_of(&twenty));
    ASSERT_EQ(dlclose(handle), 0);
    EXPECT_EQ(reinterpret_cast<Call>(change->original())(), 4) << "the replacement may call it at any time";
    ASSERT_TRUE(change->revert());
    EXPECT_EQ(caller_dlsym(RTLD_DEFAULT, "ds_global"), function);
  });
  const Library global("ds_global.so", RTLD_NOW | RTLD_GLOBAL);
  Questions questions;
  questions.askers.push_back(asker_in(global, "global"));
  expect_all(questions, "ds_global", global.get<void *>("ds_global"));
}

// ---- which function

TEST(Dlsym, OfAVersionIsThatVersion) {
  void *const first = dlvsym(RTLD_DEFAULT, "ds_versioned", "DS_1"), *const second =
                                                                        dlvsym(RTLD_DEFAULT, "ds_versioned", "DS_2");
  ASSERT_NE(first, second);
  ASSERT_EQ(in_provider("ds_versioned"), second);
  expect_all(Questions(), "ds_versioned", second);
  expect_all(Questions(), "ds_versioned", first, {.version = "DS_1"});
  expect_all(Questions(), "ds_versioned", second, {.version = "DS_2"});
}

/// As with slots: who asks for another version than the redirect is left alone, though it is the same function.
TEST(Dlsym, OfAnotherVersionOfTheSameFunctionIsLeftAlone) {
  ASSERT_EQ(dlvsym(RTLD_DEFAULT, "ds_same", "DS_1"), dlvsym(RTLD_DEFAULT, "ds_same", "DS_2"));
  expect_all(Questions(), "ds_same", in_provider("ds_same"), {.version = "DS_1"},
             [](const Said &said) { return said.asked.find("@DS_2") == std::string::npos; });
}

TEST(Dlsym, OfAnIfuncIsWhatItsResolverChose) {
  ASSERT_EQ(ds_chosen(), 1);
  expect_all(Questions(), "ds_chosen", in_provider("ds_chosen"));
}

TEST(Dlsym, IsNeverAboutData) {
  const auto data = shunt::redirect("ds_variable", &twenty, {.dlsym = true});
  ASSERT_FALSE(data);
  EXPECT_EQ(data.error().code(), shunt::Code::not_a_function) << data.error().message();
}

TEST(Dlsym, OfOneOfSeveralPluginsMustBeNamed) {
  const Library plugin("ds_plugin.so"), symbolic("ds_symbolic.so");
  const auto several = shunt::redirect("ds_next_here", &twenty, {.reach = shunt::Reach::slots, .dlsym = true});
  ASSERT_FALSE(several);
  EXPECT_EQ(several.error().code(), shunt::Code::several_functions) << several.error().message();
  const auto none =
      shunt::redirect("ds_next_here", &twenty, {.provider = "ds_plugin.so", .reach = shunt::Reach::slots});
  ASSERT_FALSE(none) << "without the option it has nothing to do";
  EXPECT_EQ(none.error().code(), shunt::Code::no_caller) << none.error().message();
}

// ---- whose calls

TEST(Dlsym, IsForTheChosenCallersOnly) {
  expect_all(Questions(), "ds_answer", in_provider("ds_answer"), {.callers = {"libds_caller.so"}},
             [](const Said &said) { return said.asker == "caller"; });
  expect_all(Questions(), "ds_answer", in_provider("ds_answer"), {.not_callers = {"libds_caller.so"}},
             [](const Said &said) { return said.asker != "caller"; });
  expect_all(Questions(), "ds_both", in_provider("ds_both"),
             {.callers = {"libds_caller.so"}, .provider = "libds_provider.so"},
             [](const Said &said) { return said.asker == "caller"; });
}

TEST(Dlsym, WithoutTheOptionIsAsItWas) {
  const Questions questions;
  const std::vector<Said> before = questions.ask();
  const auto change = shunt::redirect("ds_answer", &twenty);
  ASSERT_TRUE(change);
  EXPECT_EQ(questions.ask(), before);
  EXPECT_EQ(test_dlsym(RTLD_DEFAULT, "dlsym"), reinterpret_cast<void *>(real_dlsym));
}

TEST(Dlsym, OfAPatchIsForEverybodyButThePatch) {
  void *const real = in_provider("ds_answer");
  shunt::PatchOptions options;
  options.symbols = {"ds_answer"};
  options.reach = shunt::Reach::slots;
  options.dlsym = true;
  auto patch = shunt::Patch::load((folder + "/ds_patch.so").c_str(), options);
  ASSERT_TRUE(patch) << patch.error().message();
  const auto plan = patch->plan();
  ASSERT_TRUE(plan) << plan.error().message();
  EXPECT_NE(std::string(plan->coverage()).find("dlsym() and dlvsym() answer with the replacement"), std::string::npos)
      << plan->coverage();
  EXPECT_NE(std::string(plan->coverage()).find("lead to shunt"), std::string::npos) << plan->coverage();
  EXPECT_EQ(caller_dlsym(RTLD_DEFAULT, "ds_answer"), real) << "a plan changes nothing";
  ASSERT_TRUE(patch->apply());
  EXPECT_EQ(caller_dlsym(RTLD_DEFAULT, "ds_answer"), patch->symbol("ds_answer"));
  EXPECT_EQ(reinterpret_cast<Call>(wrap_dlsym(RTLD_NEXT, "ds_answer"))(), 101) << "it looked the original up";
  EXPECT_EQ(call_ds_answer(), 101);
  const auto another = shunt::Patch::load((folder + "/ds_patch.so").c_str(), options);
  ASSERT_TRUE(another) << another.error().message();
  EXPECT_EQ(reinterpret_cast<Call>(another->symbol("ds_answer"))(), 101)
      << "one that replaces it, too, and does not stand";
  ASSERT_TRUE(patch->revert());
  EXPECT_EQ(caller_dlsym(RTLD_DEFAULT, "ds_answer"), real);
  EXPECT_EQ(call_ds_answer(), 1);
}

TEST(Dlsym, IsAnsweredToConstructorsOfLaterObjects) {
  ASSERT_TRUE(shunt::watch_loads());
  auto change = shunt::redirect("ds_answer", &twenty, {.reach = shunt::Reach::slots, .dlsym = true});
  ASSERT_TRUE(change) << change.error().message();
  ds_seen = nullptr;
  const Library plugin("ds_constructing.so");
  EXPECT_EQ(ds_seen, address_of(&twenty));
  EXPECT_EQ(asker_in(plugin, "constructing").by_name(RTLD_NEXT, "ds_answer"), address_of(&twenty));
  ASSERT_TRUE(change->revert());
  EXPECT_EQ(asker_in(plugin, "constructing").by_name(RTLD_NEXT, "ds_answer"), in_provider("ds_answer"));
  ds_seen = nullptr;
  const Library again("ds_constructing.so", RTLD_NOW | RTLD_GLOBAL);
}

// ---- layers, and dlsym itself

TEST(Dlsym, IsAnsweredByTheNewestLayerThatAsksForIt) {
  const shunt::Options asking = {.reach = shunt::Reach::slots, .dlsym = true};
  void *const real = in_provider("ds_answer");
  const auto answer = [] { return caller_dlsym(RTLD_DEFAULT, "ds_answer"); };
  std::vector<int> order = {0, 1, 2};
  do {
    auto first = shunt::redirect("ds_answer", &twenty, asking);
    auto second = shunt::redirect("ds_answer", &thirty, asking);
    auto third = shunt::redirect("ds_answer", &forty, {.reach = shunt::Reach::slots});
    ASSERT_TRUE(first && second && third);
    EXPECT_EQ(answer(), address_of(&thirty));
    EXPECT_EQ(call_ds_answer(), 40);
    std::vector<shunt::Redirect<int()> *> standing = {&*first, &*second, &*third};
    for (const int k : order) {
      ASSERT_TRUE(standing[k]->revert());
      standing[k] = nullptr;
      EXPECT_EQ(answer(), standing[1] != nullptr   ? address_of(&thirty)
                          : standing[0] != nullptr ? address_of(&twenty)
                                                   : real);
    }
    EXPECT_EQ(caller_dlsym(RTLD_DEFAULT, "dlsym"), reinterpret_cast<void *>(real_dlsym));
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(Dlsym, ThatIsLookedUpItselfAnswersToo) {
  auto change = shunt::redirect("ds_answer", &twenty, {.reach = shunt::Reach::slots, .dlsym = true});
  ASSERT_TRUE(change) << change.error().message();
  const auto looked_up = reinterpret_cast<Dlsym>(caller_dlsym(RTLD_NEXT, "dlsym"));
  const auto looked_up_version = reinterpret_cast<Dlvsym>(caller_dlvsym(RTLD_DEFAULT, "dlvsym", "GLIBC_2.2.5"));
  ASSERT_NE(looked_up, nullptr);
  ASSERT_NE(looked_up_version, nullptr);
  EXPECT_NE(looked_up, real_dlsym);
  EXPECT_EQ(kept(looked_up(RTLD_DEFAULT, "ds_answer")), address_of(&twenty));
  EXPECT_EQ(kept(looked_up_version(RTLD_DEFAULT, "ds_answer", "DS_1")), address_of(&twenty));
  ASSERT_TRUE(change->revert());
  EXPECT_EQ(kept(looked_up(RTLD_DEFAULT, "ds_answer")), in_provider("ds_answer"));
  EXPECT_EQ(kept(looked_up_version(RTLD_DEFAULT, "ds_answer", "DS_1")), in_provider("ds_answer"));
}

void *original_dlsym = nullptr;
std::atomic<int> times_asked = 0;
void *counting_dlsym(void *handle, const char *name) {
  ++times_asked;
  return kept(reinterpret_cast<Dlsym>(__atomic_load_n(&original_dlsym, __ATOMIC_ACQUIRE))(handle, name));
}

/// Somebody else's layer over dlsym itself, below shunt's or above it, and the one or the other goes first.
TEST(Dlsym, GoesOnToOtherLayersOverDlsym) {
  const shunt::Options counted = {.original = &original_dlsym, .reach = shunt::Reach::slots};
  const shunt::Options asking = {.reach = shunt::Reach::slots, .dlsym = true};
  for (const bool is_below : {true, false}) {
    for (const bool goes_first : {true, false}) {
      SCOPED_TRACE(std::to_string(is_below) + std::to_string(goes_first));
      std::vector<shunt::Redirect<void *(void *, const char *)>> counting;
      std::vector<shunt::Redirect<int()>> change;
      const auto count = [&] {
        auto made = shunt::redirect("dlsym", &counting_dlsym, counted);
        ASSERT_TRUE(made) << made.error().message();
        counting.push_back(std::move(*made));
      };
      const auto ask = [&] {
        auto made = shunt::redirect("ds_answer", &twenty, asking);
        ASSERT_TRUE(made) << made.error().message();
        change.push_back(std::move(*made));
      };
      is_below ? (count(), ask()) : (ask(), count());
      times_asked = 0;
      EXPECT_EQ(test_dlsym(RTLD_DEFAULT, "ds_answer"), address_of(&twenty));
      EXPECT_EQ(test_dlsym(RTLD_DEFAULT, "ds_other"), in_provider("ds_other"));
      EXPECT_GE(times_asked, 2);
      const auto looked_up = reinterpret_cast<Dlsym>(caller_dlsym(RTLD_NEXT, "dlsym"));
      goes_first ? counting.clear() : change.clear();
      times_asked = 0;
      EXPECT_EQ(test_dlsym(RTLD_DEFAULT, "ds_answer"), goes_first ? address_of(&twenty) : in_provider("ds_answer"));
      EXPECT_EQ(times_asked, goes_first ? 0 : 1);
      counting.clear();
      change.clear();
      times_asked = 0;
      EXPECT_EQ(kept(looked_up(RTLD_DEFAULT, "ds_answer")), in_provider("ds_answer"));
      EXPECT_EQ(times_asked, 0) << "who keeps shunt's dlsym() gets to the real one, not to what lay below it once";
      EXPECT_EQ(test_dlsym(RTLD_DEFAULT, "dlsym"), reinterpret_cast<void *>(real_dlsym));
    }
  }
}

// ---- all or nothing, beside others

TEST(Dlsym, LeavesNothingOfATransactionThatFails) {
  const evidence::State before = evidence::state();
  auto transaction = shunt::Transaction::create();
  const shunt::Options asking = {.callers = {"libds_caller.so"}, .reach = shunt::Reach::slots, .dlsym = true};
  ASSERT_TRUE(transaction->add("ds_answer", &twenty, asking));
  const auto plan = transaction->plan();
  ASSERT_TRUE(plan) << plan.error().message();
  ASSERT_EQ(plan->slots(), 1U);
  EXPECT_EQ(evidence::difference(before), "");
  // Between plan and commit somebody else writes the slot; its page is writable, since the library is bound lazily.
  auto *const slot = reinterpret_cast<volatile std::uintptr_t *>(plan->slot(0).address);
  const std::uintptr_t held = *slot;
  *slot = reinterpret_cast<std::uintptr_t>(&forty);
  const evidence::State hooked = evidence::state();
  const auto failed = plan->commit();
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), shunt::Code::slot_changed) << failed.error().message();
  EXPECT_EQ(evidence::difference(hooked), "");
  *slot = held;
  {
    const auto change = plan->commit();
    ASSERT_TRUE(change) << change.error().message();
    EXPECT_EQ(caller_dlsym(RTLD_DEFAULT, "ds_answer"), address_of(&twenty));
    EXPECT_NE(evidence::difference(before), "");
  }
  EXPECT_EQ(evidence::difference(before), "");
}

TEST(Dlsym, IsTheOldOrTheNewAnswerWhileRedirectsComeAndGo) {
  alarm(120);
  void *const real = in_provider("ds_answer");
  std::atomic<bool> stop = false;
  std::atomic<long> wrong = 0, asked = 0;
  std::vector<std::thread> threads;
  for (int k = 0; k < 3; ++k) {
    threads.emplace_back([&, k] {
      while (!stop) {
        void *const handle = k == 0 ? RTLD_DEFAULT : RTLD_NEXT;
        void *const answer = k == 2 ? wrap_dlvsym(handle, "ds_answer", "DS_1")
                                    : caller_dlsym(k == 0 ? handle : RTLD_DEFAULT, "ds_answer");
        if (answer != real && answer != address_of(&twenty) && answer != address_of(&thirty)) ++wrong;
        if (wrap_dlsym(RTLD_NEXT, "ds_nobody") != nullptr || dlerror() == nullptr) ++wrong;
        ++asked;
      }
    });
  }
  threads.emplace_back([&] {  // constructors that ask, with the dynamic linker's lock held
    while (!stop) {
      const Library plugin("ds_constructing.so");
      void *const seen = __atomic_load_n(&ds_seen, __ATOMIC_RELAXED);
      if (seen != real && seen != address_of(&twenty) && seen != address_of(&thirty)) ++wrong;
    }
  });
  const shunt::Options asking = {.reach = shunt::Reach::slots, .dlsym = true};
  for (int k = 0; k < 300 || asked < 300; ++k) {
    auto first = shunt::redirect("ds_answer", &twenty, asking);
    ASSERT_TRUE(first) << first.error().message();
    auto second = shunt::redirect("ds_answer", &thirty, asking);
    ASSERT_TRUE(second) << second.error().message();
    EXPECT_EQ(caller_dlsym(RTLD_DEFAULT, "ds_answer"), address_of(&thirty));
    ASSERT_TRUE(first->revert());
    ASSERT_TRUE(second->revert());
    EXPECT_EQ(caller_dlsym(RTLD_DEFAULT, "ds_answer"), real);
  }
  stop = true;
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  alarm(0);
}

TEST(Dlsym, IsAForkedChildsOwn) {
  auto change = shunt::redirect("ds_answer", &twenty, {.reach = shunt::Reach::slots, .dlsym = true});
  ASSERT_TRUE(change) << change.error().message();
  in_child([&] {
    EXPECT_EQ(caller_dlsym(RTLD_DEFAULT, "ds_answer"), address_of(&twenty));
    ASSERT_TRUE(change->revert());
    EXPECT_EQ(caller_dlsym(RTLD_DEFAULT, "ds_answer"), in_provider("ds_answer"));
    const auto own = shunt::redirect("ds_answer", &thirty, {.reach = shunt::Reach::slots, .dlsym = true});
    ASSERT_TRUE(own) << own.error().message();
    EXPECT_EQ(caller_dlsym(RTLD_DEFAULT, "ds_answer"), address_of(&thirty));
  });
  EXPECT_EQ(caller_dlsym(RTLD_DEFAULT, "ds_answer"), address_of(&twenty));
}

}  // namespace

int main(int argc, char **argv) {
  testing::InitGoogleTest(&argc, argv);
  folder = argc > 1 ? argv[1] : ".";
  real_dlsym = reinterpret_cast<Dlsym>(dlsym(RTLD_DEFAULT, "dlsym"));
  return RUN_ALL_TESTS();
}
