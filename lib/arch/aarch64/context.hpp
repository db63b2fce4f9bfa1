// Aarch64Context: where an interrupted thread stands, as a signal handler sees it.
#pragma once

#include <ucontext.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

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

  /// Below the stack pointer nothing is kept (AAPCS64, 6.4.5.1).
  static constexpr std::uintptr_t kRedZone = 0;
  /// The general registers, with stack pointer and program counter, which follow them (struct sigcontext).
  static std::span<const unsigned long long> registers(const ucontext_t &context) {
    return {context.uc_mcontext.regs, 33};
  }
  /// Of the calling thread.
  static std::uintptr_t thread_pointer() {
    std::uintptr_t pointer = 0;
    __asm__("mrs %0, tpidr_el0" : "=r"(pointer));
    return pointer;
  }

  // ---- a system call that was interrupted: its result is in x0, where its first argument was; x8 still has the number

  static constexpr std::size_t kCallBytes = 4;
  static bool was_interrupted(const ucontext_t &context) {
    return static_cast<long>(context.uc_mcontext.regs[0]) == -EINTR;
  }
  static std::uintptr_t argument(const ucontext_t &context, std::size_t k) { return context.uc_mcontext.regs[k]; }
  static bool is_call(const std::uint8_t (&code)[kCallBytes]) {
    std::uint32_t instruction = 0;
    std::memcpy(&instruction, code, sizeof instruction);
    return instruction == 0xd4000001;  // svc #0
  }
  static long call_number(const std::uint8_t (&)[kCallBytes], const ucontext_t &context) {
    return static_cast<long>(context.uc_mcontext.regs[8]);
  }
  static void call_again(ucontext_t &context, long number, std::uintptr_t first_argument) {
    context.uc_mcontext.regs[8] = static_cast<unsigned long>(number);
    context.uc_mcontext.regs[0] = first_argument;
    context.uc_mcontext.pc -= kSystemCall;
  }
  static constexpr bool kResultIsArgument = true;
};

}  // namespace shunt::core::arch
