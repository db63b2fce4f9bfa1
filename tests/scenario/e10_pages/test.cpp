// e10: pages. What protects a page is asked of the kernel, and each page gets back what it had: not what the program
// headers say, not what its neighbour has.
//
// Shown to fail: with WriteWindows::open() (lib/memory) taking all words of an object to lie in one mapping, the pages
// of NeighboursWithOther… get each other's protection; with open_span() not sparing pages that are writable already and
// close() giving every page PROT_READ, APageShared… crashes in its writer and NeighboursWithOther… fails; with
// open_span() not refusing executable pages, AnExecutablePage… is granted a page that is writable and executable; with a
// page taken for 1 KiB (sys::page_size()), or never closed, every test but APageShared… fails.
#include <dlfcn.h>
#include <shunt/shunt.hpp>

#include <atomic>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "../evidence.hpp"
#include "../other_tool.hpp"

extern "C" int sum_of_all();

namespace {

constexpr int kFunctions = 2048;
constexpr int kSumOfAll = kFunctions * (kFunctions - 1) / 2;
int minus_one() { return -1; }

/// All functions of the wide caller: its slots fill at least four pages.
class e10_wide_caller : public ::testing::Test {
 protected:
  e10_wide_caller() : transaction_(*shunt::Transaction::create()) {
    for (int k = 0; k < kFunctions; ++k) {
      char name[8];
      std::snprintf(name, sizeof name, "f%03x", k);
      EXPECT_TRUE(transaction_.add(name, &minus_one, {.callers = {"libe10_wide*"}}));
    }
    const auto plan = transaction_.plan();
    std::set<void *> pages;
    for (std::size_t k = 0; k < plan->slots(); ++k) pages.insert(other_tool::page_of(plan->slot(k).address));
    pages_.assign(pages.begin(), pages.end());
  }
  void SetUp() override { ASSERT_GE(pages_.size(), 4U) << "are pages larger than 4 KiB here?"; }
  void TearDown() override {
    for (void *page : pages_) mprotect(page, getpagesize(), PROT_READ);
  }
  void protect(std::size_t page, int protection) { ASSERT_EQ(mprotect(pages_[page], getpagesize(), protection), 0); }

  shunt::Transaction transaction_;
  std::vector<void *> pages_;
};

TEST_F(e10_wide_caller, NeighboursWithOtherProtectionsGetTheirOwnBack) {
  protect(0, PROT_READ);
  protect(1, PROT_READ | PROT_WRITE);
  protect(2, PROT_WRITE);
  protect(3, PROT_READ);
  const evidence::State before = evidence::state();
  ASSERT_EQ(sum_of_all(), kSumOfAll);

  auto change = transaction_.apply();
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(sum_of_all(), -kFunctions);
  EXPECT_EQ(evidence::mappings(), before.mappings) << "also while the change stands";
  ASSERT_TRUE(change->revert());

  EXPECT_EQ(sum_of_all(), kSumOfAll);
  EXPECT_EQ(evidence::difference(before), "");
}

TEST_F(e10_wide_caller, AnExecutablePageIsRefusedAndThePagesBeforeItAreAsTheyWere) {
  protect(1, PROT_READ | PROT_WRITE);
  protect(2, PROT_READ | PROT_EXEC);
  const evidence::State before = evidence::state();

  const auto change = transaction_.apply();

  ASSERT_FALSE(change);
  EXPECT_EQ(change.error().code(), shunt::Code::protection_refused) << change.error().message();
  EXPECT_EQ(change.error().system_errno(), EACCES);
  EXPECT_EQ(other_tool::page_of(change.error().address()), pages_[2]);
  EXPECT_NE(std::string(change.error().object()).find("libe10_wide"), std::string::npos);
  EXPECT_EQ(sum_of_all(), kSumOfAll);
  EXPECT_EQ(evidence::difference(before), "");
}

struct Library {
  explicit Library(const char *name) : handle(dlopen(name, RTLD_NOW)) { EXPECT_NE(handle, nullptr) << dlerror(); }
  ~Library() { dlclose(handle); }
  template <class T>
  T *symbol(const char *name) const {
    return reinterpret_cast<T *>(dlsym(handle, name));
  }
  void *handle;
};

TEST(e10_pages, APageSharedWithDataStaysWritableForThatData) {
  const Library library("libe10_partial.so");
  const auto counter = library.symbol<volatile long>("counter");
  const auto count = library.symbol<void()>("count");
  const auto plan = [] {
    auto transaction = shunt::Transaction::create();
    EXPECT_TRUE(transaction->add("f000", &minus_one, {.callers = {"libe10_partial*"}}));
    return transaction->plan();
  }();
  if (other_tool::page_of(plan->slot(0).address) != other_tool::page_of(reinterpret_cast<std::uintptr_t>(counter)))
    GTEST_SKIP() << "this linker does not put .data into the page of .got.plt";
  const evidence::State before = evidence::state();

  std::atomic<bool> stop{false};
  std::atomic<long> rounds{0};
  std::thread writer([&] {
    while (!stop) {
      count();
      ++rounds;
    }
  });
  long applied = 0;
  for (; applied < 1000 || rounds < 1000; ++applied) {
    auto change = plan->commit();
    ASSERT_TRUE(change) << change.error().message();
  }
  stop = true;
  writer.join();

  EXPECT_EQ(*counter, 1 + rounds);
  EXPECT_EQ(evidence::difference(before), "");
}

class LayoutsForLargerPages : public ::testing::TestWithParam<const char *> {};

TEST_P(LayoutsForLargerPages, AreOpenedAndClosedPageByPage) {
  const std::string name = std::string("libe10_") + GetParam() + ".so";
  const Library library(name.c_str());
  const auto call = library.symbol<int()>("call");
  const evidence::State before = evidence::state();

  auto change = shunt::redirect("f000", &minus_one, {.callers = {name}});
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(call(), -1);
  EXPECT_EQ(evidence::mappings(), before.mappings);
  ASSERT_TRUE(change->revert());

  EXPECT_EQ(call(), 0);
  EXPECT_EQ(evidence::difference(before), "");
}

INSTANTIATE_TEST_SUITE_P(e10, LayoutsForLargerPages, ::testing::Values("4k", "16k", "64k"),
                         [](const auto &test) { return "layout_" + std::string(test.param); });

}  // namespace
