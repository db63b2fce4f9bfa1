// Threads call through several libraries all the while that redirects come and go: each call is the old function or the new
// one, nothing else, and in the end everything is as before.
//
// What is random follows from a seed, which is printed; SHUNT_SEED=<seed> repeats a run.
//
// Shown to fail (each guard of lib/ taken out, the test seen to fail, the guard put back):
//   EveryCallIsOldOrNew      write_window.hpp, compare_and_store(): half a word, a pause, the other half (a crash)
//   LayersThatAreReverted…   engine.cpp, revert(): layers above keep their original, or what their slots lead back to
//   ThreadsThatApply…        engine.cpp, Guard: does not lock the mutex (ThreadSanitizer reports it, a plain build need not)
//   all, in TearDown         write_window.cpp, close(): does nothing
#include <gtest/gtest.h>
#include <shunt/shunt.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "../memory_of.hpp"
#include "hammer.h"

namespace {

constexpr int kThreads = 4;
constexpr std::array<const hammer_calls *, 3> kCallers = {&hammer_lazy, &hammer_now, &hammer_noplt};

/// Threads that call function 0 through every library until they are stopped, and count the answers that `is_right` denies.
class Callers {
 public:
  explicit Callers(std::function<bool(int)> is_right) : is_right_(std::move(is_right)) {
    for (int k = 0; k < kThreads; ++k) threads_.emplace_back([this, k] { call(k); });
  }
  ~Callers() { stop(); }

  /// Waits until every thread has made one more round of calls from beginning to end.
  void let_each_make_a_round() {
    for (std::atomic<unsigned> &rounds : rounds_)
      for (const unsigned seen = rounds.load(); rounds.load() - seen < 2;) std::this_thread::yield();
  }
  void stop() {
    stop_ = true;
    for (std::thread &thread : threads_) thread.join();
    threads_.clear();
  }
  [[nodiscard]] unsigned wrong() const { return wrong_; }
  [[nodiscard]] int a_wrong_answer() const { return a_wrong_answer_; }

 private:
  void call(int k) {
    while (!stop_) {
      for (const hammer_calls *caller : kCallers) {
        const int answer = caller->call[0](1);
        if (is_right_(answer)) continue;
        a_wrong_answer_ = answer;
        ++wrong_;
      }
      ++rounds_[k];
    }
  }

  const std::function<bool(int)> is_right_;
  std::atomic<bool> stop_ = false;
  std::atomic<unsigned> wrong_ = 0;
  std::atomic<int> a_wrong_answer_ = 0;
  std::array<std::atomic<unsigned>, kThreads> rounds_ = {};
  std::vector<std::thread> threads_;
};

class Hammer : public testing::Test {
 protected:
  void SetUp() override {
    const char *given = std::getenv("SHUNT_SEED");
    const unsigned seed = given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 0)) : std::random_device()();
    std::printf("SHUNT_SEED=%u\n", seed);
    random_.seed(seed);
    // Bound now, so that the slots have one value to come back to.
    for (const hammer_calls *caller : kCallers)
      for (hammer_function *call : caller->call) ASSERT_EQ(call(1), 2);
    before_ = scenario::memory_of("libhammer_");
  }
  void TearDown() override { EXPECT_EQ(scenario::memory_of("libhammer_"), before_); }

  bool toss() { return (random_() & 1) != 0; }
  static void expect_from_every_library(int answer) {
    for (const hammer_calls *caller : kCallers) ASSERT_EQ(caller->call[0](1), answer);
  }

  std::mt19937 random_;
  scenario::Pages before_;
};

int add_100(int x) { return x + 100; }

TEST_F(Hammer, EveryCallIsOldOrNew) {
  Callers callers([](int answer) { return answer == 2 || answer == 101; });

  for (int k = 0; k < 500; ++k) {
    auto redirect = shunt::redirect("hammer_f0", &add_100);
    ASSERT_TRUE(redirect) << redirect.error().message();
    ASSERT_EQ(redirect->slots(), kCallers.size());
    expect_from_every_library(101);
    if (k % 50 == 0) callers.let_each_make_a_round();
    ASSERT_TRUE(redirect->revert());
    ASSERT_EQ(redirect->conflicts(), 0U);
    expect_from_every_library(2);
    if (k % 50 == 0) callers.let_each_make_a_round();
  }

  callers.stop();
  EXPECT_EQ(callers.wrong(), 0U) << "such as " << callers.a_wrong_answer();
}

// Layers that add 10, 100 and 1000 to what lies below. While one is taken out from between others, a call under way may or
// may not pass it, but passes none twice.
std::array<void *, 3> original_of_layer = {};
template <int K, int Adds>
int layer(int x) {
  return reinterpret_cast<hammer_function *>(__atomic_load_n(&original_of_layer[K], __ATOMIC_ACQUIRE))(x) + Adds;
}
constexpr std::array<hammer_function *, 3> kLayers = {&layer<0, 10>, &layer<1, 100>, &layer<2, 1000>};
constexpr std::array<int, 3> kAdds = {10, 100, 1000};

bool passes_each_layer_once_or_not(int answer) {
  answer -= 2;
  return answer >= 0 && answer % 10 == 0 && answer / 10 % 10 <= 1 && answer / 100 % 10 <= 1 && answer / 1000 <= 1;
}

TEST_F(Hammer, LayersThatAreRevertedInAnyOrder) {
  Callers callers(&passes_each_layer_once_or_not);

  for (int k = 0; k < 200; ++k) {
    int answer = 2;
    std::vector<std::pair<shunt::Change, int>> changes;
    for (std::size_t n = 0; n < kLayers.size(); ++n) {
      if (toss() && toss()) continue;
      auto redirect = shunt::redirect("hammer_f0", kLayers[n], {.original = &original_of_layer[n]});
      ASSERT_TRUE(redirect) << redirect.error().message();
      changes.emplace_back(std::move(redirect).value(), kAdds[n]);
      expect_from_every_library(answer += kAdds[n]);
    }
    std::shuffle(changes.begin(), changes.end(), random_);
    for (auto &[change, adds] : changes) {
      if (k % 30 == 0) callers.let_each_make_a_round();
      ASSERT_TRUE(change.revert());
      ASSERT_EQ(change.conflicts(), 0U);
      expect_from_every_library(answer -= adds);
    }
  }

  callers.stop();
  EXPECT_EQ(callers.wrong(), 0U) << "such as " << callers.a_wrong_answer();
}

TEST_F(Hammer, ThreadsThatApplyAndRevertEachTheirOwnSymbol) {
  std::array<std::atomic<unsigned>, hammer_functions> failures = {};
  std::vector<std::thread> threads;

  for (unsigned n = 0; n < hammer_functions; ++n)
    threads.emplace_back([n, &failures] {
      const std::string symbol = "hammer_f" + std::to_string(n);
      const auto expect = [&](int answer) {
        for (const hammer_calls *caller : kCallers)
          if (caller->call[n](1) != answer) ++failures[n];
      };
      for (int k = 0; k < 500; ++k) {
        auto redirect = shunt::redirect(symbol.c_str(), &add_100);
        if (!redirect) {
          ++failures[n];
          continue;
        }
        expect(101);
        if (!redirect->revert() || redirect->conflicts() != 0) ++failures[n];
        expect(2);
      }
    });
  for (std::thread &thread : threads) thread.join();

  for (const std::atomic<unsigned> &failed : failures) EXPECT_EQ(failed, 0U);
}

}  // namespace
