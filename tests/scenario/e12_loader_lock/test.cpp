// e12: an allocator that holds its own lock while it waits for the loader's, as one does that takes a backtrace of every
// allocation. If shunt allocated while it holds the loader's lock, two threads would wait for each other for ever.
//
// Shown to fail (by the alarm): with Engine::make_plan() (lib/engine) making a std::vector inside while_locked(), or
// with PageVector (lib/base) taking its memory by operator new. ShuntAllocates… hangs each time, the other one when the
// threads meet.
#include <gtest/gtest.h>
#include <link.h>
#include <semaphore.h>
#include <unistd.h>
#include <shunt/shunt.hpp>

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

extern "C" {
int work();
int answer();
}

namespace {

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

// ---- the same without chance: an allocator that has another thread walk the objects, and waits for it

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
