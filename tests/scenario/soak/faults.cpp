#include "faults.hpp"

#include <dlfcn.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <shunt/shunt.hpp>

namespace {

// Of this thread. Read in a signal handler, so it must be there from the start.
struct Armed {
  unsigned left;  // 0: no call fails
  const char *failed;
};
__attribute__((tls_model("initial-exec"))) thread_local volatile Armed armed = {0, nullptr};

bool fails(const char *what) {
  if (armed.left == 0) return false;
  armed.left = armed.left - 1;
  if (armed.left != 0) return false;
  armed.failed = what;
  return true;
}

// The one place where the filter lets those calls through.
extern "C" long soak_call_kernel(long number, const long long *arguments);
extern "C" const char soak_call_kernel_end[];
__asm__(
    ".text\n"
    ".globl soak_call_kernel\n"
    ".type soak_call_kernel, @function\n"
    "soak_call_kernel:\n"
    "  mov %rdi, %rax\n"
    "  mov %rsi, %r11\n"
    "  mov 0(%r11), %rdi\n"
    "  mov 8(%r11), %rsi\n"
    "  mov 16(%r11), %rdx\n"
    "  mov 24(%r11), %r10\n"
    "  mov 32(%r11), %r8\n"
    "  mov 40(%r11), %r9\n"
    "  syscall\n"
    ".globl soak_call_kernel_end\n"
    "soak_call_kernel_end:\n"
    "  ret\n"
    ".size soak_call_kernel, . - soak_call_kernel\n");

const char *name_of(long number) {
  switch (number) {
    case SYS_mprotect:
      return "mprotect";
    case SYS_mmap:
      return "mmap";
    case SYS_memfd_create:
      return "memfd_create";
    default:
      return "openat";
  }
}

void decide(int, siginfo_t *info, void *at) {
  greg_t *const registers = static_cast<ucontext_t *>(at)->uc_mcontext.gregs;
  if (fails(name_of(info->si_syscall))) {
    registers[REG_RAX] = info->si_syscall == SYS_openat ? -EMFILE : -ENOMEM;
    return;
  }
  const long long arguments[] = {registers[REG_RDI], registers[REG_RSI], registers[REG_RDX],
                                 registers[REG_R10], registers[REG_R8],  registers[REG_R9]};
  registers[REG_RAX] = soak_call_kernel(info->si_syscall, arguments);
}

void *(*original_malloc)(std::size_t) = nullptr;
void *failing_malloc(std::size_t size) {
  if (fails("malloc")) {
    errno = ENOMEM;
    return nullptr;
  }
  return original_malloc(size);
}

}  // namespace

namespace faults {

bool can_install() {
  return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &(const std::uint32_t &)std::uint32_t{SECCOMP_RET_TRAP}) ==
         0;
}

void install() {
  struct sigaction action = {};
  action.sa_sigaction = decide;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigaction(SIGSYS, &action, nullptr);
  const auto place = reinterpret_cast<std::uintptr_t>(soak_call_kernel_end);
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_create, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 4),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, instruction_pointer)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(place), 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, instruction_pointer) + 4),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(place >> 32), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
  };
  const sock_fprog program = {std::size(filter), filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    std::perror("seccomp");
    std::abort();
  }
  original_malloc = malloc;
  auto change = shunt::redirect("malloc", &failing_malloc, {.callers = {"libstdc++.so*"}});
  if (!change) {
    std::fprintf(stderr, "%s\n", change.error().message());
    std::abort();
  }
  change->keep();
}

void arm(unsigned step) {
  armed.failed = nullptr;
  armed.left = step;
}

void pause() { armed.left = 0; }

std::string disarm() {
  pause();
  return armed.failed != nullptr ? const_cast<const char *>(armed.failed) : "";
}

}  // namespace faults
