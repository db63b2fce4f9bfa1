// e07: redirecting what shunt itself uses. Its own calls may run into the replacements, in the middle of an apply or a
// revert: they get through, and nothing is called twice over or waited for.
//
// Shown to fail: with Engine::Guard (lib/engine) not asking whether this thread holds the engine already,
// AReplacementThatCallsShunt… hangs until the alarm; with Engine::write() telling the originals after the slots were
// stored, e07_own_needs_inside_relro crashes: the system call that closes the pages finds no original.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>
#include <shunt/shunt.hpp>

#include <atomic>
#include <cstdlib>
#include <vector>

extern "C" {
int use_malloc();
int use_free();
int use_calloc();
int use_realloc();
int use_mmap();
int use_mprotect();
int use_pthread_mutex_lock();
int use_dlsym();
int use_dl_iterate_phdr();
int use_syscall();
}

namespace {

/// What the replacement of one function knows: how often it was called, and the original.
template <class Function>
struct Counted {
  std::atomic<long> calls{0};
  void *original = nullptr;
  template <class... Arguments>
  auto operator()(Arguments... arguments) {
    ++calls;
    return reinterpret_cast<Function *>(__atomic_load_n(&original, __ATOMIC_ACQUIRE))(arguments...);
  }
};
Counted<void *(std::size_t)> counted_malloc;
Counted<void(void *)> counted_free;
Counted<void *(std::size_t, std::size_t)> counted_calloc;
Counted<void *(void *, std::size_t)> counted_realloc;
Counted<void *(void *, std::size_t, int, int, int, off_t)> counted_mmap;
Counted<int(void *, std::size_t, int)> counted_mprotect;
Counted<int(pthread_mutex_t *)> counted_pthread_mutex_lock;
Counted<void *(void *, const char *)> counted_dlsym;
using Visit = int (*)(dl_phdr_info *, std::size_t, void *);
Counted<int(Visit, void *)> counted_dl_iterate_phdr;
Counted<long(long, ...)> counted_syscall;

void *our_malloc(std::size_t size) { return counted_malloc(size); }
void our_free(void *memory) { counted_free(memory); }
void *our_calloc(std::size_t count, std::size_t size) { return counted_calloc(count, size); }
void *our_realloc(void *memory, std::size_t size) { return counted_realloc(memory, size); }
void *our_mmap(void *at, std::size_t size, int protection, int flags, int file, off_t offset) {
  return counted_mmap(at, size, protection, flags, file, offset);
}
int our_mprotect(void *at, std::size_t size, int protection) { return counted_mprotect(at, size, protection); }
int our_pthread_mutex_lock(pthread_mutex_t *mutex) { return counted_pthread_mutex_lock(mutex); }
void *our_dlsym(void *handle, const char *name) { return counted_dlsym(handle, name); }
int our_dl_iterate_phdr(Visit visit, void *context) { return counted_dl_iterate_phdr(visit, context); }
long our_syscall(long number, long a, long b, long c, long d, long e, long f) {
  return counted_syscall(number, a, b, c, d, e, f);
}

struct Need {
  const char *symbol;
  void *replacement;
  int (*use)();
  std::atomic<long> *calls;
  void **original;
};
template <class Function>
void *address_of(Function *function) {
  return reinterpret_cast<void *>(function);
}
#define NEED(name) \
  Need { #name, address_of(&our_##name), &use_##name, &counted_##name.calls, &counted_##name.original }
const Need kNeeds[] = {NEED(malloc),   NEED(free),  NEED(calloc),  NEED(realloc),         NEED(mmap),
                       NEED(mprotect), NEED(dlsym), NEED(syscall), NEED(dl_iterate_phdr), NEED(pthread_mutex_lock)};

void expect_redirected(const Need &need, bool redirected) {
  const long before = *need.calls;
  EXPECT_EQ(need.use(), 1) << need.symbol;
  EXPECT_EQ(*need.calls > before, redirected) << need.symbol;
}

class e07_own_needs : public ::testing::Test {
 protected:
  void SetUp() override { alarm(60); }
  void TearDown() override { alarm(0); }
};

TEST_F(e07_own_needs, EachAlone) {
  for (const Need &need : kNeeds) {
    auto transaction = shunt::Transaction::create();
    ASSERT_TRUE(transaction->add(need.symbol, need.replacement, {.original = need.original}));
    for (int round = 0; round < 50; ++round) {
      auto change = transaction->apply();
      ASSERT_TRUE(change) << need.symbol << ": " << change.error().message();
      expect_redirected(need, true);
      ASSERT_TRUE(change->revert());
      expect_redirected(need, false);
    }
  }
}

TEST_F(e07_own_needs, AllInOneTransaction) {
  auto transaction = shunt::Transaction::create();
  for (const Need &need : kNeeds)
    ASSERT_TRUE(transaction->add(need.symbol, need.replacement, {.original = need.original}));
  for (int round = 0; round < 50; ++round) {
    auto change = transaction->apply();
    ASSERT_TRUE(change) << change.error().message();
    for (const Need &need : kNeeds) expect_redirected(need, true);
    ASSERT_TRUE(change->revert());
    for (const Need &need : kNeeds) expect_redirected(need, false);
  }
}

// ---- a replacement that calls shunt

shunt_transaction *probe;
std::atomic<int> answers[64];

void *malloc_that_calls_shunt(std::size_t size) {
  static thread_local bool is_inside = false;
  if (!is_inside) {
    is_inside = true;
    shunt_plan *plan = nullptr;
    ++answers[shunt_transaction_plan(probe, &plan, nullptr)];
    shunt_plan_free(plan);
    is_inside = false;
  }
  return counted_malloc(size);
}

/// By its name, or not found at all where it is not the program's. (Without is_in_shunt() the program's is redirected.)
TEST_F(e07_own_needs, ItsOwnFunctionsHaveNoEntry) {
  const auto refused =
      shunt::redirect("shunt_version", +[]() -> const char * { return "another"; }, {.reach = shunt::Reach::entry});
  EXPECT_FALSE(refused);
  EXPECT_STRNE(shunt_version(), "another");
}

TEST_F(e07_own_needs, AReplacementThatCallsShuntIsToldBusyWhenShuntRanIntoIt) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "shunt does not run into a malloc where operator new is AddressSanitizer's";
#endif
  ASSERT_EQ(shunt_transaction_new(&probe, nullptr), SHUNT_OK);
  ASSERT_EQ(shunt_transaction_add(probe, "free", reinterpret_cast<void *>(&our_free), nullptr, nullptr), SHUNT_OK);
  auto layer = shunt::redirect("malloc", &malloc_that_calls_shunt, {.original = &counted_malloc.original});
  ASSERT_TRUE(layer) << layer.error().message();

  for (int round = 0; round < 20; ++round) {
    auto change = shunt::redirect("calloc", &our_calloc, {.original = &counted_calloc.original});
    ASSERT_TRUE(change) << change.error().message();
    ASSERT_TRUE(change->revert());
  }
  EXPECT_EQ(use_malloc(), 1);
  ASSERT_TRUE(layer->revert());

  EXPECT_GT(answers[SHUNT_OK], 0) << "called by the program, it may use shunt";
  EXPECT_GT(answers[SHUNT_E_busy], 0) << "called by shunt, it is told so";
  answers[SHUNT_OK] = answers[SHUNT_E_busy] = 0;
  for (int code = 0; code < 64; ++code) EXPECT_EQ(answers[code], 0) << shunt_code_name(static_cast<shunt_code>(code));
  shunt_transaction_free(probe);
}

}  // namespace
