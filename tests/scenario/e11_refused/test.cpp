// e11: the kernel refuses to make a page of slots writable: a sandbox forbids mprotect, the page is sealed, or it maps a
// file that may not be written. That is an error with the facts, and no byte and no protection of the process has
// changed, whichever of the callers it was.
//
// Shown to fail: with Engine::write() (lib/engine) storing the slots of each object right after its pages were opened,
// NothingHasChanged… finds the callers before the k-th redirected; with ~WriteWindows (lib/memory) not closing what was
// opened, it finds their pages writable; with open_span() not looking at what mprotect answers, every test here crashes
// in its child.
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <shunt/shunt.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "../child.hpp"
#include "../evidence.hpp"
#include "../other_tool.hpp"

extern "C" {
int call_0();
int call_1();
int call_2();
int call_3();
int call_4();
}

namespace {

constexpr int (*kCalls[])() = {&call_0, &call_1, &call_2, &call_3, &call_4};
constexpr std::size_t kCallers = std::size(kCalls);

int our_answer() { return 11; }

shunt::Transaction redirect_answer() {
  auto transaction = shunt::Transaction::create();
  EXPECT_TRUE(transaction->add("answer", &our_answer, {.callers = {"libe11_caller_*"}}));
  return std::move(*transaction);
}

/// The k-th slot, in the order in which a plan lists them.
shunt_slot_info slot(std::size_t k) {
  static const auto plan = redirect_answer().plan();
  EXPECT_EQ(plan->slots(), kCallers);
  return plan->slot(k);
}

// ---- three ways to refuse

/// The page becomes a shared mapping of a file that is open for reading only: mprotect(PROT_WRITE) answers EACCES.
void map_read_only_file_over(std::uint64_t address) {
  void *const page = other_tool::page_of(address);
  const auto size = static_cast<std::size_t>(getpagesize());
  const int file = memfd_create("slots", 0);
  ASSERT_EQ(write(file, page, size), getpagesize());
  const int reader = open(("/proc/self/fd/" + std::to_string(file)).c_str(), O_RDONLY);
  ASSERT_NE(reader, -1);
  ASSERT_EQ(mmap(page, size, PROT_READ, MAP_SHARED | MAP_FIXED, reader, 0), page);
}

long seal(void *page) { return syscall(462 /* mseal, Linux 6.10 */, page, getpagesize(), 0); }

/// From here on the kernel answers EPERM to every mprotect that asks for PROT_WRITE.
void forbid_making_pages_writable() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),  // little endian: the lower half
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_WRITE, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {std::size(filter), filter};
  ASSERT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0) << strerror(errno);
}

void expect_refusal(const shunt::Error &error, const shunt_slot_info &slot, int number) {
  EXPECT_EQ(error.code(), shunt::Code::protection_refused) << error.message();
  EXPECT_STREQ(error.object(), slot.caller);
  EXPECT_EQ(error.address(), slot.address);
  EXPECT_EQ(error.system_errno(), number);
}

// ---- what must hold

TEST(e11_refused, NothingHasChangedWhicheverCallerCannotBeWritten) {
  for (std::size_t k = 0; k < kCallers; ++k) {
    SCOPED_TRACE(k);
    const shunt_slot_info refused = slot(k);
    in_child([&] {
      map_read_only_file_over(refused.address);
      const evidence::State before = evidence::state();

      const auto change = redirect_answer().apply();

      ASSERT_FALSE(change);
      expect_refusal(change.error(), refused, EACCES);
      EXPECT_EQ(evidence::difference(before), "");
      for (const auto call : kCalls) EXPECT_EQ(call(), 1);
    });
  }
}

TEST(e11_refused, ASealedPage) {
  void *const probe = mmap(nullptr, getpagesize(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (seal(probe) != 0) GTEST_SKIP() << "this kernel has no mseal: " << strerror(errno);
  for (std::size_t k = 0; k < kCallers; ++k) {
    SCOPED_TRACE(k);
    const shunt_slot_info refused = slot(k);
    in_child([&] {
      ASSERT_EQ(seal(other_tool::page_of(refused.address)), 0);
      const evidence::State before = evidence::state();

      const auto change = redirect_answer().apply();

      ASSERT_FALSE(change);
      expect_refusal(change.error(), refused, EPERM);
      EXPECT_NE(std::string(change.error().message()).find("sealed"), std::string::npos) << change.error().message();
      EXPECT_EQ(evidence::difference(before), "");
    });
  }
}

TEST(e11_refused, ASandboxThatForbidsMprotect) {
  std::vector<shunt_slot_info> slots;
  for (std::size_t k = 0; k < kCallers; ++k) slots.push_back(slot(k));
  in_child([&] {
    forbid_making_pages_writable();
    const evidence::State before = evidence::state();

    const auto change = redirect_answer().apply();

    ASSERT_FALSE(change);
    const auto first = std::find_if(slots.begin(), slots.end(),
                                    [&](const shunt_slot_info &one) { return one.address == change.error().address(); });
    ASSERT_NE(first, slots.end());
    expect_refusal(change.error(), *first, EPERM);
    EXPECT_NE(std::string(change.error().message()).find("sandbox"), std::string::npos) << change.error().message();
    EXPECT_EQ(evidence::difference(before), "");
  });
}

TEST(e11_refused, ARevertThatIsRefusedLeavesTheWholeChangeInPlace) {
  for (std::size_t k = 0; k < kCallers; ++k) {
    SCOPED_TRACE(k);
    const shunt_slot_info refused = slot(k);
    in_child([&] {
      auto change = redirect_answer().apply();
      ASSERT_TRUE(change);
      map_read_only_file_over(refused.address);
      const evidence::State before = evidence::state();

      const auto reverted = change->revert();

      ASSERT_FALSE(reverted);
      expect_refusal(reverted.error(), refused, EACCES);
      EXPECT_TRUE(change->is_applied());
      EXPECT_EQ(evidence::difference(before), "");
      for (const auto call : kCalls) EXPECT_EQ(call(), 11);
      change->keep();
    });
  }
}

}  // namespace
