// A patch is a plain shared library. What it replaces, for whom, and what its own calls reach; which file it is; how often its
// constructors run.
//
// Shown to fail (each guard of lib/ taken out, the test seen to fail, the guard put back): see at each test.
#include "patches.hpp"

#include <algorithm>
#include <map>

#include "target.hpp"

namespace {

using shunt::Code;
using shunt::Patch;

constexpr const char *kDoubled = "_Z7doubledi", *kHalved = "_Z6halvedIiET_S0_";

Patch load(const std::string &path, const shunt::PatchOptions &options = {}) {
  auto patch = Patch::load(path.c_str(), options);
  if (!patch) ADD_FAILURE() << patch.error().message();
  return patch ? std::move(*patch) : Patch(nullptr);
}

Patch apply(const std::string &path, const shunt::PatchOptions &options = {}) {
  Patch patch = load(path, options);
  if (const auto applied = patch.apply(); !applied) ADD_FAILURE() << applied.error().message();
  return patch;
}

// ---- which functions

// exports.cpp: the weak functions put on the list of the strong.
TEST(Patch, ReplacesEveryStrongFunctionThatItExportsAndNoWeakOne) {
  Patch patch = apply(built("fix"));

  EXPECT_EQ(a_calls_answer(), 11);
  EXPECT_EQ(b_calls_answer(), 11);
  EXPECT_EQ(a_calls_second(), 22);
  EXPECT_EQ(a_calls_doubled(4), 8);
  EXPECT_EQ(a_calls_halved(4), 2);

  ASSERT_TRUE(patch.revert());
  EXPECT_EQ(a_calls_answer(), 1);
  EXPECT_EQ(b_calls_answer(), 1);
  EXPECT_EQ(a_calls_second(), 2);
}

// exports.cpp: `exports(weak)` not asked.
TEST(Patch, ReplacesWeakFunctionsThatAreNamedAndThenOnlyThose) {
  const Patch patch = apply(built("fix"), {.symbols = {kDoubled, kHalved}});

  EXPECT_EQ(a_calls_doubled(4), 800);
  EXPECT_EQ(b_calls_halved(4), 200);
  EXPECT_EQ(a_calls_answer(), 1);
}

// exports.cpp: the part behind '=' not taken for the replacement.
TEST(Patch, ReplacesAFunctionByOneOfAnotherName) {
  const Patch patch = apply(built("renamed"), {.symbols = {"answer=eleven", "second=eleven"}});

  EXPECT_EQ(a_calls_answer(), 11);
  EXPECT_EQ(b_calls_second(), 11);
}

// patch.cpp: is_optional set to false: the patch is refused. coverage.cpp: no line for it.
TEST(Patch, ListsInItsPlanWhatMatchesNothing) {
  const Patch patch = load(built("fix"));

  const auto plan = patch.plan();

  ASSERT_TRUE(plan) << plan.error().message();
  EXPECT_EQ(plan->redirects(), 3U);
  EXPECT_EQ(plan->slots(), 4U);
  const std::string coverage = plan->coverage();
  EXPECT_NE(coverage.find("nobody_calls_this: matches nothing"), std::string::npos) << coverage;
  EXPECT_NE(coverage.find("answer: 2 slots in 2 objects"), std::string::npos) << coverage;
  EXPECT_EQ(a_calls_answer(), 1) << "a plan writes nothing";
}

// patch.cpp: callers, not_callers or provider not passed on.
TEST(Patch, ReplacesOnlyForTheChosenCallers) {
  {
    const Patch patch = apply(built("fix"), {.callers = {"libpatch_caller_a.so"}});
    EXPECT_EQ(a_calls_answer(), 11);
    EXPECT_EQ(b_calls_answer(), 1);
  }
  {
    const Patch patch = apply(built("fix"), {.not_callers = {"*caller_a*"}});
    EXPECT_EQ(a_calls_answer(), 1);
    EXPECT_EQ(b_calls_answer(), 11);
  }
}

TEST(Patch, ReplacesOnlyWhatTheNamedProviderDefines) {
  {
    const Patch patch = apply(built("fix"), {.provider = "libpatch_provider.so"});
    EXPECT_EQ(a_calls_answer(), 11);
  }
  Patch patch = load(built("fix"), {.provider = "libc.so*"});
  const auto applied = patch.apply();
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().code(), Code::patch_matches_nothing) << applied.error().message();
  EXPECT_EQ(a_calls_answer(), 1);
}

// ---- what its own calls reach

// patch.cpp: neither the filter nor the engine knows the patch: its own slots are written as well, and it calls itself without end.
TEST(Patch, ReachesTheOriginalByItsOwnCalls) {
  const Patch patch = apply(built("digit_2"));

  EXPECT_EQ(a_calls_answer(), 12);
  EXPECT_EQ(a_calls_second(), 1) << "from one function of the patch to another by name: to the original as well";
}

// planner.cpp, plan_self_slot() does nothing; engine.cpp, revert(): the self slots of layers above left as they are; planner.cpp:
// the slots of the lower patch taken for those of a caller.
TEST(Patch, ReachesThePatchBelowByItsOwnCalls) {
  Patch two = apply(built("digit_2"));
  const Patch three = apply(built("digit_3"));

  EXPECT_EQ(a_calls_answer(), 123);
  EXPECT_EQ(a_calls_second(), 12) << "second() of digit_3, whose answer() is that of digit_2";

  ASSERT_TRUE(two.revert());
  EXPECT_EQ(a_calls_answer(), 13);
  EXPECT_EQ(a_calls_second(), 1);
}

// The same, and the middle one of three.
TEST(Patch, IsRevertedInAnyOrder) {
  std::string order = "234";
  do {
    SCOPED_TRACE(order);
    std::string standing = "234";
    std::map<char, Patch> patches;
    for (const char digit : standing) patches.emplace(digit, apply(built(std::string("digit_") + digit)));
    EXPECT_EQ(std::to_string(a_calls_answer()), "1234");
    for (const char digit : order) {
      const auto reverted = patches.at(digit).revert();
      ASSERT_TRUE(reverted) << reverted.error().message();
      std::erase(standing, digit);
      EXPECT_EQ(std::to_string(a_calls_answer()), "1" + standing);
      EXPECT_EQ(std::to_string(b_calls_answer()), "1" + standing);
    }
  } while (std::next_permutation(order.begin(), order.end()));
}

// e45: A, B and C over one function. Every sequence of five steps, each of which takes one of them out where it stands, and puts it on top where
// it does not; a model knows what each call answers.
TEST(Patch, ComesAndGoesInEveryOrder) {
  constexpr int kSteps = 5;
  const std::string all = "234";
  for (int sequence = 0; sequence < 243; ++sequence) {  // 3 to the power of 5
    std::map<char, Patch> patches;
    std::string standing, steps;
    for (int step = 0, left = sequence; step < kSteps; ++step, left /= 3) {
      const char digit = all[static_cast<std::size_t>(left % 3)];
      steps += digit;
      if (const auto patch = patches.find(digit); patch != patches.end()) {
        const auto reverted = patch->second.revert();
        ASSERT_TRUE(reverted) << steps << ": " << reverted.error().message();
        patches.erase(patch);
        std::erase(standing, digit);
      } else {
        patches.emplace(digit, apply(built(std::string("digit_") + digit)));
        standing += digit;
      }
      ASSERT_EQ(std::to_string(a_calls_answer()), "1" + standing) << steps;
      ASSERT_EQ(std::to_string(b_calls_answer()), "1" + standing) << steps;
      for (const auto &[name, patch] : patches) ASSERT_EQ(patch.conflicts(), 0U) << steps << ", " << name;
    }
  }
  EXPECT_EQ(a_calls_answer(), 1);
}

// layers.cpp, remove() does nothing: the layer that went is still found below the others.
TEST(Patch, IsAppliedAgainOnTopOfTheOthers) {
  Patch two = apply(built("digit_2"), {.keep = true}), three = apply(built("digit_3"));
  ASSERT_TRUE(two.revert());

  const auto again = two.apply();

  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(a_calls_answer(), 132);
  ASSERT_TRUE(three.revert());
  EXPECT_EQ(a_calls_answer(), 12);
}

// patch.cpp, apply() and revert(): change() not looked at.
TEST(Patch, IsNotAppliedTwiceNorRevertedTwice) {
  Patch patch = apply(built("digit_2"));

  const auto twice = patch.apply();
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().code(), Code::wrong_state);
  EXPECT_EQ(a_calls_answer(), 12);

  ASSERT_TRUE(patch.revert());
  const auto reverted = patch.revert();
  ASSERT_FALSE(reverted);
  EXPECT_EQ(reverted.error().code(), Code::wrong_state);
}

// ---- which file

std::size_t lines_of_maps_with(const std::string &text) {
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);) count += line.find(text) != std::string::npos ? 1 : 0;
  return count;
}

// patch.cpp, load(): the file itself opened by its descriptor, not private_copy(): the write destroys the code that runs.
TEST(Patch, IsAPrivateCopyOfTheFile) {
  const Folder folder;
  const std::string path = folder.write("rebuilt.so", bytes_of(built("digit_2")));
  Patch first = apply(path);
  const std::size_t mapped = lines_of_maps_with("/memfd:rebuilt.so");

  ASSERT_EQ(folder.write("rebuilt.so", bytes_of(built("digit_3"))), path);
  EXPECT_EQ(a_calls_answer(), 12);
  const Patch second = apply(path);

  EXPECT_EQ(a_calls_answer(), 123) << "a rebuilt file of the same name is a new patch";
  EXPECT_GT(mapped, 0U);
  EXPECT_EQ(lines_of_maps_with("/memfd:rebuilt.so"), 2 * mapped);
  EXPECT_EQ(lines_of_maps_with(path), 0U);
  ASSERT_TRUE(first.revert());
  EXPECT_EQ(a_calls_answer(), 13);
}

// patch.cpp, path_to_load() answers the first path: the dynamic linker takes the copy for the one that it knows by this path.
TEST(Patch, IsNotTakenForAnotherThatHadTheSameDescriptor) {
  const Patch two = load(built("digit_2")), three = load(built("digit_3")), four = load(built("digit_4"));

  EXPECT_NE(two.symbol("answer"), three.symbol("answer"));
  EXPECT_NE(three.symbol("answer"), four.symbol("answer"));
  EXPECT_NE(two.symbol("answer"), four.symbol("answer"));
}

// ---- how often it comes and goes

// patch_code.cpp: a second dlopen of another copy; ~PatchCode() not closing what was not applied.
TEST(Patch, IsConstructedOnceAndUnloadedWhenNobodyHasItAnyMore) {
  const int constructed = constructions, destroyed = destructions;
  {
    const Patch patch = load(built("fix"));
    EXPECT_EQ(constructions, constructed + 1);
    EXPECT_TRUE(patch.plan());
  }
  EXPECT_EQ(constructions, constructed + 1);
  EXPECT_EQ(destructions, destroyed + 1);
  {
    Patch patch = load(built("fix"), {.keep = true});
    for (int round = 0; round < 3; ++round) {
      ASSERT_TRUE(patch.apply());
      ASSERT_TRUE(patch.revert());
    }
    EXPECT_EQ(constructions, constructed + 2);
  }
  EXPECT_EQ(destructions, destroyed + 1) << "it was loaded to be kept";
}

}  // namespace
