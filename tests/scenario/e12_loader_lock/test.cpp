// e12: an allocator that holds its own lock while it waits for the loader's, as one does that takes a backtrace of every
// allocation. If shunt allocated while it holds the loader's lock, two threads would wait for each other for ever.
//
// Shown to fail (by the alarm): with Engine::make_plan() (lib/engine) making a std::vector inside while_locked(), or
// with PageVector (lib/base) taking its memory by operator new. ShuntAllocates… hangs each time, the other one when the
// threads meet. …AsksTheDynamicLinker… hangs with Engine::on_load() waiting for the engine as long as it takes.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>
#include <semaphore.h>
#include <unistd.h>
#include <shunt/shunt.hpp>

#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

extern "C" {
int work();
int answer();
extern void (*e12_when_loading)();
extern int e12_answer;
}

namespace {

std::string plugin_path;
std::mutex allocator_lock;
std::atomic<long> allocations{0};
void *original_malloc;

void *malloc_that_takes_a_backtrace(std::size_t size) {
  const std::lock_guard hold(allocator_lock);
  ++allocations;
  dl_iterate_phdr([](dl_phdr_info *, std::size_t, void *) { return 0; }, nullptr);
  return reinterpret_cast<void *(*)(std::size_t)>(__atomic_load_n(&original_malloc, __ATOMIC_ACQUIRE))(size);
}
int our_answer() { return 11; }

TEST(e12_loader_lock, AnAllocatorThatWaitsForTheLoaderDoesNotStopUs) {
  alarm(60);
  auto layer = shunt::redirect("malloc", &malloc_that_takes_a_backtrace, {.original = &original_malloc});
  ASSERT_TRUE(layer) << layer.error().message();
  std::atomic<bool> stop{false};
  std::atomic<long> worked{0};
  std::vector<std::thread> threads;
  for (int k = 0; k < 2; ++k)
    threads.emplace_back([&] {
      while (!stop) worked += work() == 'x' ? 1 : 0;
    });

  for (long round = 0; round < 500 || worked < 500; ++round) {
    auto change = shunt::redirect("answer", &our_answer);
    ASSERT_TRUE(change) << change.error().message();
    EXPECT_EQ(answer(), 11);
    auto second_layer = shunt::redirect("malloc", &malloc_that_takes_a_backtrace, {.callers = {"libe12_worker*"}});
    ASSERT_TRUE(second_layer) << second_layer.error().message();
    ASSERT_TRUE(second_layer->revert());
    ASSERT_TRUE(change->revert());
  }
  stop = true;
  for (std::thread &thread : threads) thread.join();

  ASSERT_TRUE(layer->revert());
  EXPECT_GE(allocations, worked);
  const long before = allocations;
  EXPECT_EQ(work(), 'x');
  EXPECT_EQ(allocations, before);
  alarm(0);
}

// ---- an allocator that waits for the other lock of the loader, which a thread that loads objects holds from beginning to end

/// Counted down by allocations of the thread that counts; at 1 it has another thread load a plugin, and asks the dynamic linker something
/// when that thread is in the middle of it.
thread_local int until_it_asks = 0;
sem_t start_loading, is_loading, has_asked;

void *malloc_that_asks_the_dynamic_linker(std::size_t size) {
  if (until_it_asks > 0 && --until_it_asks == 0) {
    sem_post(&start_loading);
    while (sem_wait(&is_loading) != 0) {
    }
    sem_post(&has_asked);
    Dl_info info;
    dladdr(reinterpret_cast<void *>(&answer), &info);
  }
  return reinterpret_cast<void *(*)(std::size_t)>(__atomic_load_n(&original_malloc, __ATOMIC_ACQUIRE))(size);
}

/// Shunt's own allocations come to it through libstdc++. The thread that loads comes to shunt, too, before the first constructor: where shunt
/// is held by the thread that waits for it, it gives up, and the constructor sees no redirect. When that happens depends on which allocation
/// it is, so all are tried until it does.
TEST(e12_loader_lock, AnAllocatorThatAsksTheDynamicLinkerDoesNotStopALoad) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "what asks for memory here is AddressSanitizer's own malloc, which no slot leads to";
#endif
  alarm(60);
  for (sem_t *one : {&start_loading, &is_loading, &has_asked}) sem_init(one, 0, 0);
  ASSERT_TRUE(shunt::watch_loads());
  auto standing = shunt::redirect("answer", &our_answer, {.reach = shunt::Reach::slots});
  ASSERT_TRUE(standing) << standing.error().message();
  auto layer = shunt::redirect("malloc", &malloc_that_asks_the_dynamic_linker, {.original = &original_malloc});
  ASSERT_TRUE(layer) << layer.error().message();
  e12_answer = 11;
  for (int k = 1; e12_answer == 11; ++k) {
    e12_answer = 0;
    std::thread loader([&] {
      while (sem_wait(&start_loading) != 0) {
      }
      void *const plugin = dlopen(plugin_path.c_str(), RTLD_NOW);
      ASSERT_NE(plugin, nullptr) << dlerror();
      dlclose(plugin);
    });
    until_it_asks = k;
    auto change = shunt::redirect("work", &our_answer, {.reach = shunt::Reach::slots});
    ASSERT_EQ(until_it_asks, 0) << "no allocation is made with shunt held";
    ASSERT_TRUE(change) << change.error().message();
    loader.join();
  }
  EXPECT_EQ(e12_answer, 1);
  ASSERT_TRUE(layer->revert());
  alarm(0);
}

// ---- the first without chance: an allocator that has another thread walk the objects, and waits for it

sem_t asked, answered;
thread_local bool asks = false;
std::atomic<bool> is_over{false};

void *malloc_that_waits_for_another_thread(std::size_t size) {
  if (asks) {
    sem_post(&asked);
    while (sem_wait(&answered) != 0) {
    }
  }
  return reinterpret_cast<void *(*)(std::size_t)>(__atomic_load_n(&original_malloc, __ATOMIC_ACQUIRE))(size);
}

TEST(e12_loader_lock, ShuntAllocatesNothingWhileItHoldsTheLoadersLock) {
  alarm(60);
  sem_init(&asked, 0, 0);
  sem_init(&answered, 0, 0);
  std::thread walker([] {
    for (;;) {
      while (sem_wait(&asked) != 0) {
      }
      if (is_over) return;
      dl_iterate_phdr([](dl_phdr_info *, std::size_t, void *) { return 0; }, nullptr);
      sem_post(&answered);
    }
  });
  auto layer = shunt::redirect("malloc", &malloc_that_waits_for_another_thread, {.original = &original_malloc});
  ASSERT_TRUE(layer) << layer.error().message();

  asks = true;
  auto transaction = shunt::Transaction::create();
  ASSERT_TRUE(transaction->add("answer", &our_answer));
  auto plan = transaction->plan();
  ASSERT_TRUE(plan) << plan.error().message();
  auto change = plan->commit();
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(change->conflicts(), 0U);
  ASSERT_TRUE(layer->revert());
  asks = false;

  EXPECT_EQ(answer(), 11);
  is_over = true;
  sem_post(&asked);
  walker.join();
  alarm(0);
}

}  // namespace

int main(int argc, char **argv) {
  testing::InitGoogleTest(&argc, argv);
  e12_when_loading = [] {
    sem_post(&is_loading);
    while (sem_wait(&has_asked) != 0) {
    }
  };
  plugin_path = std::string(argc > 1 ? argv[1] : ".") + "/e12_plugin.so";
  return RUN_ALL_TESTS();
}
