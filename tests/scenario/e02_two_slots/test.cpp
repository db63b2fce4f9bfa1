// One object can hold several slots of one symbol: .got.plt for calls, .got for its address or for calls without a PLT, and
// data. All of them change, wherever they lie and however that memory is protected, and every page is protected afterwards
// as it was before.
//
// Shown to fail (each guard of lib/ taken out, the test seen to fail, the guard put back):
//   EverySlotChanges…       writer.cpp, put_in_span(): only the first slot of an object is written;
//                           write_window.cpp, open_span(): forgets to open (a crash)
//   ProtectionsAreExactly…  write_window.cpp, close(): does nothing, or makes every page readable and writable
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <shunt/shunt.hpp>

#include <cstdlib>
#include <optional>
#include <set>
#include <string>

#include "../memory_of.hpp"

namespace {

using Function = int(int);
int add_100(int x) { return x + 100; }

class TwoSlots : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const char *folder = std::getenv("E02_CALLERS");
    ASSERT_NE(folder, nullptr) << "run by meson test, which sets E02_CALLERS";
    name_ = "libe02_" + GetParam() + ".so";
    caller_ = dlopen((std::string(folder) + "/" + name_).c_str(), RTLD_LAZY | RTLD_LOCAL);
    ASSERT_NE(caller_, nullptr) << dlerror();
    call_ = reinterpret_cast<Function *>(dlsym(caller_, "call"));
    address_ = reinterpret_cast<Function *(*)()>(dlsym(caller_, "address"));
    table_ = static_cast<Function **>(dlsym(caller_, "table"));

    auto transaction = shunt::Transaction::create();
    ASSERT_TRUE(transaction->add("e02_function", &add_100, {.callers = {name_}}));
    auto plan = transaction->plan();
    ASSERT_TRUE(plan) << plan.error().message();
    plan_.emplace(std::move(plan).value());
    for (std::size_t k = 0; k < plan_->slots(); ++k) kinds_.insert(plan_->slot(k).kind);
  }
  void TearDown() override {
    if (caller_ != nullptr) dlclose(caller_);
  }
  void expect_every_way_adds(int what) const {
    EXPECT_EQ(call_(1), 1 + what);
    EXPECT_EQ(address_()(1), 1 + what);
    EXPECT_EQ(table_[0](1), 1 + what);
  }

  std::string name_;
  void *caller_ = nullptr;
  Function *call_ = nullptr;
  Function *(*address_)() = nullptr;
  Function **table_ = nullptr;
  std::optional<shunt::Plan> plan_;
  std::multiset<std::string> kinds_;
};

TEST_P(TwoSlots, EverySlotChangesAndIsGivenBack) {
  ASSERT_GE(plan_->slots(), 2U);
  auto change = plan_->commit();
  ASSERT_TRUE(change) << change.error().message();

  expect_every_way_adds(100);
  for (std::size_t k = 0; k < plan_->slots(); ++k)
    EXPECT_EQ(scenario::word_at(plan_->slot(k).address), reinterpret_cast<std::uint64_t>(&add_100)) << plan_->slot(k).kind;

  ASSERT_TRUE(change->revert());
  for (std::size_t k = 0; k < plan_->slots(); ++k)
    EXPECT_EQ(scenario::word_at(plan_->slot(k).address), plan_->slot(k).value) << plan_->slot(k).kind;
  expect_every_way_adds(1);
}

TEST_P(TwoSlots, ProtectionsAreExactlyAsBefore) {
  const scenario::Pages before = scenario::protections_of(name_);
  for (std::size_t k = 0; k < plan_->slots(); ++k) {
    const std::string protection = scenario::protection_at(plan_->slot(k).address, before);
    if (GetParam().ends_with("now_relro")) {
      EXPECT_EQ(protection, "r--p") << plan_->slot(k).kind;
    } else if (GetParam().ends_with("norelro")) {
      EXPECT_EQ(protection, "rw-p") << plan_->slot(k).kind;
    }
  }

  auto change = plan_->commit();
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(scenario::protections_of(name_), before);

  ASSERT_TRUE(change->revert());
  EXPECT_EQ(scenario::protections_of(name_), before);
}

TEST_P(TwoSlots, TheCallAndTheAddressHaveASlotEach) {
  if (GetParam().starts_with("noplt")) {
    EXPECT_EQ(kinds_, (std::multiset<std::string>{"absolute", "glob_dat"}));
  } else if (kinds_.count("jump_slot") == 0) {
    GTEST_SKIP() << "this linker makes one slot of a call and an address, and gold is not there";
  } else {
    EXPECT_EQ(kinds_, (std::multiset<std::string>{"absolute", "glob_dat", "jump_slot"}));
  }
}

INSTANTIATE_TEST_SUITE_P(Linked, TwoSlots,
                         testing::Values("plt_lazy_relro", "plt_lazy_norelro", "plt_now_relro", "plt_now_norelro",
                                         "noplt_lazy_relro", "noplt_lazy_norelro", "noplt_now_relro",
                                         "noplt_now_norelro"),
                         [](const auto &caller) { return caller.param; });

}  // namespace
