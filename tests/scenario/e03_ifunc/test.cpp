// The symbol of an IFUNC is its resolver. What callers call, and so the original, is what the resolver answers.
//
// Shown to fail: resolver.cpp, function_address() gives the resolver's own address. Then every original is the resolver.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <shunt/shunt.hpp>

#include <cstring>

#include "e03.h"

namespace {

// Set to the originals by shunt. Read as volatile words: these replacements must not call by name.
void *copy_original, *length_original, *own_original;
template <class Function>
Function *called(void *&word) {
  return reinterpret_cast<Function *>(__atomic_load_n(&word, __ATOMIC_ACQUIRE));
}

int copies = 0;
void *counting_copy(void *to, const void *from, size_t size) {
  ++copies;
  return called<void *(void *, const void *, size_t)>(copy_original)(to, from, size);
}
size_t length_and_1000(const char *text) { return called<size_t(const char *)>(length_original)(text) + 1000; }
int own_and_100(int x) { return called<int(int)>(own_original)(x) + 100; }

class Ifunc : public testing::TestWithParam<const e03_calls *> {
 protected:
  [[nodiscard]] const e03_calls &caller() const { return *GetParam(); }
  [[nodiscard]] shunt::Options options(void **original) const {
    return {.caller_at = reinterpret_cast<const void *>(caller().own), .original = original};
  }
};

TEST_P(Ifunc, Memcpy) {
  const auto redirect = shunt::redirect("memcpy", &counting_copy, options(&copy_original));
  ASSERT_TRUE(redirect) << redirect.error().message();
  EXPECT_EQ(redirect->shunt::Change::original(), dlsym(RTLD_DEFAULT, "memcpy"));

  char text[8] = "";
  copies = 0;
  EXPECT_EQ(caller().copy(text, "shunt", 6), text);
  EXPECT_STREQ(text, "shunt");
  EXPECT_EQ(copies, 1);
}

TEST_P(Ifunc, Strlen) {
  const auto redirect = shunt::redirect("strlen", &length_and_1000, options(&length_original));
  ASSERT_TRUE(redirect) << redirect.error().message();
  EXPECT_EQ(redirect->shunt::Change::original(), dlsym(RTLD_DEFAULT, "strlen"));

  EXPECT_EQ(caller().length("shunt"), 1005U);
  EXPECT_EQ(caller().length(""), 1000U);
}

TEST_P(Ifunc, OneOfOurOwn) {
  const auto redirect = shunt::redirect("e03_own", &own_and_100, options(&own_original));
  ASSERT_TRUE(redirect) << redirect.error().message();
  EXPECT_EQ(redirect->shunt::Change::original(), dlsym(RTLD_DEFAULT, "e03_own"));

  EXPECT_EQ(caller().own(1), 102);
  EXPECT_EQ(caller().own(1), 102);
}

INSTANTIATE_TEST_SUITE_P(Bound, Ifunc, testing::Values(&e03_lazy, &e03_now),
                         [](const auto &info) { return info.param == &e03_lazy ? "lazily" : "at_start"; });

}  // namespace
