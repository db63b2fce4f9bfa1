// X86_64Context: where an interrupted thread stands, as a signal handler sees it.
#pragma once

#include <ucontext.h>

#include <cstdint>

namespace shunt::core::arch {

struct X86_64Context {
  /// A thread that ran into a trap stands so many bytes behind the trap's first byte.
  static constexpr std::uintptr_t kBehindTrap = 1;
  /// The instruction that enters the kernel. A thread asleep in there stands behind it, and before it once the call is restarted.
  static constexpr std::uintptr_t kSystemCall = 2;

  static std::uintptr_t pc(const ucontext_t &context) {
    return static_cast<std::uintptr_t>(context.uc_mcontext.gregs[REG_RIP]);
  }
  static std::uintptr_t sp(const ucontext_t &context) {
    return static_cast<std::uintptr_t>(context.uc_mcontext.gregs[REG_RSP]);
  }
  /// A register that holds a return address: none, they are all on the stack.
  static std::uintptr_t link(const ucontext_t &) { return 0; }
  /// Whether a word on a stack is the program counter that a signal handler will return to, as far as the two words behind it tell:
  /// the kernel saved the flags and the code segment there (struct sigcontext). Interrupts are on in user code, and bit 1 is
  /// always set; the segment is one of user code.
  static bool is_saved_pc(const std::uintptr_t (&behind)[2]) {
    return (behind[0] & 0x202) == 0x202 && behind[0] < (1U << 22) && (behind[1] & 3) == 3;
  }
  static void set_pc(ucontext_t &context, std::uintptr_t pc) {
    context.uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(pc);
  }
};

}  // namespace shunt::core::arch
