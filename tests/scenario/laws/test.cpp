// The laws of a transaction. 1: one that fails at any step leaves every byte of the process as it was, and the error has
// the facts. 2: no page is ever writable and executable. 10: shunt does not redirect its own calls. Errors that need
// more than a redirect: original_unresolved is in e14, slot_changed in e09, protection_refused in e10 and e11, busy in
// e07.
//
// Shown to fail: with change_all_words() (lib/slot) not undoing what it wrote, ASlotChanged… finds slots redirected;
// with Engine::commit_prepared() (lib/engine) not putting the words for originals back, it finds them changed; with
// planned_objects_stay() always true, AnUnloadedObject… fails; with Planner::push() passing over a slot that there is no
// memory for, WithoutMemory… fails; with open_span() (lib/memory) asking for PROT_EXEC too, the kernel kills the child
// of NoPage…; with ObjectTable::add() (lib/objects) not setting is_own, ShuntsOwnCalls… crashes. Each kind of error in
// wrong() is missed when its check in lib/engine/planner.cpp is taken out.
#include <dlfcn.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <shunt/shunt.hpp>

#include <array>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "../child.hpp"
#include "../evidence.hpp"
#include "../other_tool.hpp"

extern "C" {
int sum();
int read_data();
}

namespace {

using shunt::Code;

constexpr const char *kFunctions[] = {"f0", "f1", "f2", "f3", "f4"};
constexpr int kCount = std::size(kFunctions);
constexpr int kSum = 0 + 1 + 2 + 3 + 4;
char untouched;
void *const kUntouched = &untouched;

int hundred() { return 100; }
int some_data = 1;

struct Library {
  explicit Library(const char *name) : handle(dlopen(name, RTLD_NOW | RTLD_LOCAL)) {
    EXPECT_NE(handle, nullptr) << dlerror();
  }
  Library(const Library &) = delete;
  Library &operator=(const Library &) = delete;
  ~Library() { dlclose(handle); }
  void *handle;
};

/// A transaction of f0 … f4, each with a word for its original.
struct Five {
  Five() : transaction(*shunt::Transaction::create()) { originals.fill(kUntouched); }
  void add(int k) {
    shunt::Options options = {.callers = {"liblaws_caller.so"}, .original = &originals[k]};
    EXPECT_TRUE(transaction.add(kFunctions[k], &hundred, options));
  }
  [[nodiscard]] static Five all() {
    Five five;
    for (int k = 0; k < kCount; ++k) five.add(k);
    return five;
  }
  void expect_untouched() const {
    for (void *original : originals) EXPECT_EQ(original, kUntouched);
  }
  shunt::Transaction transaction;
  std::array<void *, kCount> originals;
};

// ---- 1: all or nothing

struct Wrong {
  Code code;
  const char *symbol;
  void *replacement;
  shunt::Options options;
  const char *object;  // part of the object's path, "" none
  const char *named;   // the symbol in the error
  bool has_address;
};

const Wrong &wrong(std::size_t k) {
  void *const good = reinterpret_cast<void *>(&hundred);
  static const std::vector<Wrong> wrongs = {
      {Code::unknown_symbol, "no_such_function", good, {}, "", "no_such_function", false},
      {Code::no_caller, "f0", good, {.callers = {"no_such_library*"}}, "", "f0", false},
      {Code::no_caller, "f0", good, {.callers = {"liblaws_twin_caller_a.so"}}, "liblaws_caller.so", "f0", false},
      {Code::no_provider, "f0", good, {.provider = "no_such_library*"}, "liblaws_caller.so", "f0", false},
      {Code::no_provider, "f0", good, {.version = "NO_SUCH_VERSION"}, "liblaws_caller.so", "f0", false},
      {Code::not_a_function, "data", good, {}, "liblaws_provider.so", "data", true},
      {Code::several_functions, "twin", good, {}, "liblaws_twin_", "twin", true},
      {Code::bad_replacement, "twin", &some_data, {.callers = {"liblaws_twin_caller_a.so"}}, "laws", "twin", true},
      {Code::image_malformed, "twin", good, {.callers = {"liblaws_malformed.so"}}, "liblaws_malformed.so", "", false},
      // A second time:
      {Code::invalid_argument, "f0", good, {.callers = {"liblaws_caller.so"}}, "liblaws_caller.so", "f0", true},
  };
  static const Wrong end = {};
  return k < wrongs.size() ? wrongs[k] : end;
}

TEST(laws, NothingHasChangedWhicheverRedirectFails) {
  const Library a("liblaws_twin_caller_a.so"), b("liblaws_twin_caller_b.so"), malformed("liblaws_malformed.so");
  ASSERT_EQ(sum(), kSum);
  ASSERT_EQ(read_data(), 1);
  const evidence::State before = evidence::state();
  for (std::size_t w = 0; wrong(w).symbol != nullptr; ++w) {
    for (int k = 0; k <= kCount; ++k) {
      SCOPED_TRACE(std::to_string(w) + " at position " + std::to_string(k));
      const Wrong &bad = wrong(w);
      Five five;
      for (int good = 0; good < k; ++good) five.add(good);
      ASSERT_TRUE(five.transaction.add(bad.symbol, bad.replacement, bad.options));
      for (int good = k; good < kCount; ++good) five.add(good);

      const auto change = five.transaction.apply();

      ASSERT_FALSE(change);
      const shunt::Error &error = change.error();
      EXPECT_EQ(error.code(), bad.code) << error.message();
      EXPECT_STREQ(error.symbol(), bad.named);
      EXPECT_EQ(error.address() != 0, bad.has_address) << error.message();
      EXPECT_EQ(*error.object() == '\0', *bad.object == '\0') << error.message();
      EXPECT_NE(std::strstr(error.object(), bad.object), nullptr) << error.object();
      EXPECT_STRNE(error.message(), "");
      five.expect_untouched();
    }
  }
  EXPECT_EQ(evidence::difference(before), "");
}

TEST(laws, ASlotChangedSinceThePlanUndoesTheOthers) {
  const evidence::State before = evidence::state();
  for (int k = 0; k < kCount; ++k) {
    const Five five = Five::all();
    const auto plan = five.transaction.plan();
    ASSERT_TRUE(plan) << plan.error().message();
    ASSERT_EQ(plan->slots(), static_cast<std::size_t>(kCount));
    const shunt_slot_info slot = plan->slot(k);
    other_tool::write(slot.address, reinterpret_cast<std::uintptr_t>(&sum));

    const auto change = plan->commit();

    ASSERT_FALSE(change);
    EXPECT_EQ(change.error().code(), Code::slot_changed);
    EXPECT_EQ(change.error().address(), slot.address);
    EXPECT_STREQ(change.error().symbol(), plan->symbol(slot.redirect));
    five.expect_untouched();
    other_tool::write(slot.address, slot.value);
    EXPECT_EQ(evidence::difference(before), "");
  }
}

TEST(laws, AnUnloadedObjectMakesThePlanStale) {
  Five five = Five::all();
  const auto plan = [&] {
    const Library plugin("liblaws_twin_caller_a.so");
    EXPECT_TRUE(five.transaction.add("twin", &hundred));
    return five.transaction.plan();
  }();
  ASSERT_TRUE(plan) << plan.error().message();
  const evidence::State before = evidence::state();

  const auto change = plan->commit();

  ASSERT_FALSE(change);
  EXPECT_EQ(change.error().code(), Code::plan_stale) << change.error().message();
  EXPECT_NE(std::string(change.error().object()).find("liblaws_twin_caller_a.so"), std::string::npos);
  five.expect_untouched();
  EXPECT_EQ(evidence::difference(before), "");
}

TEST(laws, WithoutMemoryNothingChanges) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer ends the process when it gets no memory for itself";
#endif
  in_child([] {
    const Five five = Five::all();
    const evidence::State before = evidence::state();
    rlimit limit{};
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = 0;
    ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);

    const auto change = five.transaction.apply();

    limit.rlim_cur = limit.rlim_max;
    ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
    ASSERT_FALSE(change);
    EXPECT_EQ(change.error().code(), Code::out_of_memory) << change.error().message();
    five.expect_untouched();
    EXPECT_EQ(evidence::difference(before), "");
  });
}

TEST(laws, AChangeIsRevertedOnce) {
  auto change = Five::all().transaction.apply();
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(sum(), 100 * kCount);
  ASSERT_TRUE(change->revert());
  const evidence::State before = evidence::state();

  const auto again = change->revert();

  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), Code::wrong_state) << again.error().message();
  EXPECT_EQ(evidence::difference(before), "");
}

TEST(laws, AMalformedLibraryThatNobodyAskedForIsNamedInTheCoverage) {
  const Library malformed("liblaws_malformed.so");
  auto transaction = shunt::Transaction::create();
  ASSERT_TRUE(transaction->add("f0", &hundred));
  const auto plan = transaction->plan();
  ASSERT_TRUE(plan) << plan.error().message();
  EXPECT_NE(std::string(plan->coverage()).find("liblaws_malformed.so: not examined"), std::string::npos)
      << plan->coverage();
}

// ---- 2: never writable and executable

/// From here on the kernel kills this process when it asks for memory that is both.
void kill_at_writable_and_executable() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pkey_mprotect, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 4),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),  // little endian: the lower half
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, PROT_WRITE | PROT_EXEC),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PROT_WRITE | PROT_EXEC, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {std::size(filter), filter};
  ASSERT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0) << strerror(errno);
}

TEST(laws, NoPageIsEverWritableAndExecutable) {
  in_child([] {
    kill_at_writable_and_executable();
    const Five five = Five::all();
    auto change = five.transaction.apply();
    ASSERT_TRUE(change) << change.error().message();
    EXPECT_EQ(sum(), 100 * kCount);
    ASSERT_TRUE(change->revert());

    const auto plan = five.transaction.plan();
    mprotect(other_tool::page_of(plan->slot(0).address), getpagesize(), PROT_READ | PROT_EXEC);
    const auto refused = plan->commit();
    ASSERT_FALSE(refused) << "its page is executable, so it must not become writable";
    EXPECT_EQ(refused.error().code(), Code::protection_refused);
  });
}

TEST(laws, WorksWhereTheKernelForbidsWritableAndExecutableMemory) {
  constexpr int kSetMdwe = 65, kGetMdwe = 66, kRefuseExecGain = 1;
  if (prctl(kGetMdwe, 0, 0, 0, 0) < 0) GTEST_SKIP() << "this kernel has no PR_SET_MDWE";
  in_child([] {
    ASSERT_EQ(prctl(kSetMdwe, kRefuseExecGain, 0, 0, 0), 0);
    auto change = Five::all().transaction.apply();
    ASSERT_TRUE(change) << change.error().message();
    EXPECT_EQ(sum(), 100 * kCount);
    ASSERT_TRUE(change->revert());
    EXPECT_EQ(sum(), kSum);
  });
}

// ---- 10: shunt's own calls

TEST(laws, ShuntsOwnCallsAreNotRedirected) {
  for (const char *symbol : {"syscall", "dl_iterate_phdr", "pthread_mutex_lock", "memcpy"}) {
    const auto own = shunt::redirect(symbol, &hundred, {.callers = {"libshunt.so*"}});
    ASSERT_FALSE(own) << symbol;
    EXPECT_EQ(own.error().code(), Code::no_caller) << own.error().message();

    auto transaction = shunt::Transaction::create();
    ASSERT_TRUE(transaction->add(symbol, &hundred));
    const auto plan = transaction->plan();
    for (std::size_t k = 0; plan && k < plan->slots(); ++k)
      EXPECT_EQ(std::strstr(plan->slot(k).caller, "libshunt.so"), nullptr) << symbol;
  }
}

}  // namespace
