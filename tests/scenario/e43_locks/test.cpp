// e43: threads that hold the lock of stdio, of malloc or of the dynamic linker while redirects come and go beside them, and dlopen and dlclose
// in a loop. Where shunt waited for one of these locks with one of its own held that the other thread needs, this would hang: the alarm
// ends it. (An allocator that waits for the loader's lock is e12.)
//
// Shown to fail (by the alarm):
//   AThreadThatHoldsStdio…        log.cpp: a line is printed to stdout before it is given to the sink
//   AConstructorThatWaits…        engine.cpp, Guard::free_of_loads(): wait_for_loading() without asking has_silent()
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <semaphore.h>
#include <unistd.h>
#include <shunt/shunt.hpp>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

extern "C" {
int e43_answer();
extern void (*e43_in_constructor)();
extern int e43_seen;
}

namespace {

std::string plugin_path;

int two() { return 2; }
int three() { return 3; }

shunt::Options by_slots() { return {.reach = shunt::Reach::slots}; }
shunt::Options by_entry() { return {.reach = shunt::Reach::entry}; }

/// Every kind of work, one after the other.
void work_once(const shunt::Options &options) {
  auto change = shunt::redirect("e43_answer", &two, options);
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(e43_answer(), 2);
  auto over = shunt::redirect("e43_answer", &three, options);
  ASSERT_TRUE(over) << over.error().message();
  EXPECT_EQ(e43_answer(), 3);
  EXPECT_EQ(change->conflicts(), 0U);
  ASSERT_TRUE(change->revert());
  ASSERT_TRUE(over->revert());
  EXPECT_EQ(e43_answer(), 1);
}

/// A thread that holds something until this goes out of scope.
class Holder {
 public:
  Holder(const std::function<void()> &take, const std::function<void()> &give) {
    sem_init(&held_, 0, 0);
    sem_init(&enough_, 0, 0);
    thread_ = std::thread([this, take, give] {
      take();
      sem_post(&held_);
      wait_for(enough_);
      give();
    });
    wait_for(held_);
  }
  Holder(const Holder &) = delete;
  Holder &operator=(const Holder &) = delete;
  ~Holder() {
    sem_post(&enough_);
    thread_.join();
  }

 private:
  static void wait_for(sem_t &semaphore) {
    while (sem_wait(&semaphore) != 0) {
    }
  }
  sem_t held_, enough_;
  std::thread thread_;
};

TEST(e43_locks, AThreadThatHoldsStdioStopsNobody) {
  alarm(60);
  shunt_set_log([](shunt_log_level, const char *, void *) {}, nullptr, SHUNT_LOG_DEBUG);
  {
    const Holder holder(
        [] {
          flockfile(stdout);
          flockfile(stderr);
        },
        [] {
          funlockfile(stderr);
          funlockfile(stdout);
        });
    work_once(by_slots());
    work_once(by_entry());
  }
  shunt_set_log(nullptr, nullptr, SHUNT_LOG_ERROR);
  alarm(0);
}

sem_t is_constructing, go_on;

/// A constructor that waits for another thread: the dynamic linker's lock is held by its thread all the while.
void load_and_wait(bool is_watched) {
  alarm(60);
  if (is_watched) {
    ASSERT_TRUE(shunt::watch_loads());
  }
  sem_init(&is_constructing, 0, 0);
  sem_init(&go_on, 0, 0);
  e43_in_constructor = [] {
    sem_post(&is_constructing);
    while (sem_wait(&go_on) != 0) {
    }
  };
  std::thread loader([] {
    void *const plugin = dlopen(plugin_path.c_str(), RTLD_NOW);
    ASSERT_NE(plugin, nullptr) << dlerror();
    dlclose(plugin);
  });
  while (sem_wait(&is_constructing) != 0) {
  }
  for (int k = 0; k < 10; ++k) work_once(by_slots());
  auto change = shunt::redirect("e43_answer", &two, by_slots());
  ASSERT_TRUE(change) << change.error().message();
  sem_post(&go_on);
  loader.join();
  EXPECT_EQ(e43_seen, 2) << "the constructor went on with the redirect, which covers its object";
  e43_in_constructor = nullptr;
  alarm(0);
}

TEST(e43_locks, AConstructorThatWaitsStopsNobody) { load_and_wait(false); }
TEST(e43_locks, AConstructorThatWaitsStopsNobodyWhereLoadsAreWatched) { load_and_wait(true); }

/// Threads that allocate, print, and load and unload all the time; each takes and gives its lock thousands of times.
TEST(e43_locks, EverybodyWorksBesideIt) {
  alarm(150);
  std::atomic<bool> stop = false;
  std::atomic<long> rounds[4] = {};
  std::vector<std::thread> threads;
  const auto start = [&](int number, auto work) {
    threads.emplace_back([&stop, &rounds, number, work] {
      for (; !stop; ++rounds[number]) work();
    });
  };
  start(0, [] {
    void *volatile memory = std::malloc(100);
    std::free(memory);
  });
  start(1, [] {
    FILE *const file = std::fopen("/dev/null", "we");
    std::fprintf(file, "%d\n", e43_answer());
    std::fflush(nullptr);
    std::fclose(file);
  });
  for (const int number : {2, 3}) {
    start(number, [] {
      void *const plugin = dlopen(plugin_path.c_str(), RTLD_LAZY);
      EXPECT_NE(plugin, nullptr);
      const int answer = reinterpret_cast<int (*)()>(dlsym(plugin, "e43_call"))();
      EXPECT_TRUE(answer >= 1 && answer <= 3) << answer;
      dlclose(plugin);
    });
  }
  const auto everybody_had_turns = [&] {
    for (const std::atomic<long> &one : rounds)
      if (one < 200) return false;
    return true;
  };
  for (int k = 0; k < 100 || !everybody_had_turns(); ++k) work_once(k % 2 == 0 ? by_slots() : by_entry());
  stop = true;
  for (std::thread &one : threads) one.join();
  EXPECT_EQ(e43_answer(), 1);
  alarm(0);
}

}  // namespace

int main(int argc, char **argv) {
  testing::InitGoogleTest(&argc, argv);
  plugin_path = std::string(argc > 1 ? argv[1] : ".") + "/e43_plugin.so";
  return RUN_ALL_TESTS();
}
