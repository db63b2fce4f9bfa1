// Aarch64Context: where an interrupted thread stands, as a signal handler sees it.
#pragma once

#include <ucontext.h>

#include <cstdint>

namespace shunt::core::arch {

struct Aarch64Context {
  /// A thread that ran into a trap stands at it.
  static constexpr std::uintptr_t kBehindTrap = 0;
  /// The instruction that enters the kernel. A thread asleep in there stands behind it, and before it once the call is restarted.
  static constexpr std::uintptr_t kSystemCall = 4;

  static std::uintptr_t pc(const ucontext_t &context) { return context.uc_mcontext.pc; }
  static std::uintptr_t sp(const ucontext_t &context) { return context.uc_mcontext.sp; }
  /// A register that holds a return address.
  static std::uintptr_t link(const ucontext_t &context) { return context.uc_mcontext.regs[30]; }
  /// Whether a word on a stack is the program counter that a signal handler will return to, as far as the words behind it tell: the
  /// kernel saved PSTATE there (struct sigcontext), of exception level 0.
  static bool is_saved_pc(const std::uintptr_t (&behind)[2]) { return (behind[0] & 0x1f) == 0 && behind[0] >> 32 == 0; }
  static void set_pc(ucontext_t &context, std::uintptr_t pc) { context.uc_mcontext.pc = pc; }
};

}  // namespace shunt::core::arch
