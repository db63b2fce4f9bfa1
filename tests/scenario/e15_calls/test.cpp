// e15: what passes through a redirected call besides integers: exceptions, longjmp, variadic and vector arguments. All
// of it does, since nothing lies between the slot and the replacement.
//
// Shown to fail: with Planner::push() (lib/engine) giving out a thunk that calls the replacement, as a tool does that
// wants to count calls (no unwind information, al and the vector registers not kept), all but Longjmp… fail or crash;
// with it giving out the slot's old value, Longjmp… finds that nothing jumped.
#include <gtest/gtest.h>
#include <shunt/shunt.hpp>

#include <csetjmp>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string>

extern "C" {
int plain(int x);
int format(char *out, std::size_t size, const char *text, ...);
int call_guarded(int x, int *destroyed);
int call_and_catch(int x, int *destroyed);
int call_plain(int x);
int call_format(char *out, std::size_t size);
void call_add8(double *out);
void doubled_add8();
extern void *original_add8;
}

namespace {

constexpr const char *kNumbers = "1 1.5 2 2.5 3 3.5 4 4.5 5 5.5 6 6.5 7 7.5 8 8.5 9.5 10.5";

int throwing(int x) { throw x; }

TEST(e15_calls, TheSlotHoldsTheReplacementItself) {
  auto transaction = shunt::Transaction::create();
  ASSERT_TRUE(transaction->add("plain", &throwing));
  const auto plan = transaction->plan();
  const auto change = plan->commit();
  for (std::size_t k = 0; k < plan->slots(); ++k)
    EXPECT_EQ(*reinterpret_cast<void **>(plan->slot(k).address), reinterpret_cast<void *>(&throwing));
}

TEST(e15_calls, ExceptionsReachTheCallerAndItsDestructorsRun) {
  const auto change = shunt::redirect("plain", &throwing);
  ASSERT_TRUE(change) << change.error().message();

  int destroyed = 0;
  EXPECT_EQ(call_and_catch(5, &destroyed), -5) << "caught in the calling library";
  EXPECT_EQ(destroyed, 1);
  try {
    call_guarded(6, &destroyed);
    ADD_FAILURE() << "nothing was thrown";
  } catch (int thrown) {
    EXPECT_EQ(thrown, 6) << "caught beyond the calling library";
  }
  EXPECT_EQ(destroyed, 2);
}

std::jmp_buf landing;
int jumping(int x) { std::longjmp(landing, x); }

TEST(e15_calls, LongjmpLeavesThroughTheCaller) {
  const auto change = shunt::redirect("plain", &jumping);
  ASSERT_TRUE(change) << change.error().message();
  const int landed = setjmp(landing);
  if (landed == 0) {
    call_plain(7);
    FAIL() << "nothing jumped";
  }
  EXPECT_EQ(landed, 7);
}

int prefixed(char *out, std::size_t size, const char *text, ...) {
  va_list arguments;
  va_start(arguments, text);
  std::strcpy(out, "redirected: ");
  const int written = std::vsnprintf(out + std::strlen(out), size - std::strlen(out), text, arguments);
  va_end(arguments);
  return written;
}

TEST(e15_calls, VariadicArgumentsArrive) {
  char text[256];
  auto change = shunt::redirect("format", &prefixed);
  ASSERT_TRUE(change) << change.error().message();
  call_format(text, sizeof text);
  EXPECT_EQ(text, std::string("redirected: ") + kNumbers);
  change->original()(text, sizeof text, "%g %s", 0.5, "original");
  EXPECT_STREQ(text, "0.5 original");
  ASSERT_TRUE(change->revert());
  call_format(text, sizeof text);
  EXPECT_STREQ(text, kNumbers);
}

TEST(e15_calls, VectorArgumentsArrive) {
#ifndef WITH_AVX
  GTEST_SKIP() << "this machine's kind has no AVX";
#else
  if (!__builtin_cpu_supports("avx")) GTEST_SKIP() << "this processor has no AVX";
  const auto change = shunt::redirect("add8", &doubled_add8, {.original = &original_add8});
  ASSERT_TRUE(change) << change.error().message();
  double out[4];
  call_add8(out);
  for (int k = 0; k < 4; ++k) EXPECT_EQ(out[k], 2 * (8 * k + 28)) << "lane " << k;
#endif
}

}  // namespace
