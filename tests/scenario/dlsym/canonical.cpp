// e08 with the option `dlsym`: in a program that is not position independent and takes the address of a function, that is its own PLT
// entry, in the whole process, and what dlsym(RTLD_DEFAULT) answers.
//
// Shown to fail: with dlsym_answers.cpp, find(), not asking for the canonical address.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <shunt/shunt.hpp>

extern "C" {
int ds_answer();
void *caller_dlsym(void *, const char *);
}

namespace {

int twenty() { return 20; }
int (*volatile address)() = nullptr;

TEST(DlsymCanonical, AnswersWithTheReplacementInPlaceOfThePltEntry) {
  address = &ds_answer;  // by an instruction: a variable would have a slot
  void *const entry = reinterpret_cast<void *>(address);
  void *const real = caller_dlsym(dlopen("libds_provider.so", RTLD_NOW | RTLD_NOLOAD), "ds_answer");
  ASSERT_NE(entry, real);
  ASSERT_EQ(caller_dlsym(RTLD_DEFAULT, "ds_answer"), entry);
  auto change = shunt::redirect("ds_answer", &twenty, {.reach = shunt::Reach::slots, .dlsym = true});
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(caller_dlsym(RTLD_DEFAULT, "ds_answer"), reinterpret_cast<void *>(&twenty));
  EXPECT_EQ(address(), 20);
  ASSERT_TRUE(change->revert());
  EXPECT_EQ(caller_dlsym(RTLD_DEFAULT, "ds_answer"), entry);
  EXPECT_EQ(address(), 1);
}

}  // namespace
