// X86_64Context: where an interrupted thread stands, as a signal handler sees it.
#pragma once

#include <ucontext.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

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

  /// Below the stack pointer a function may keep so many bytes (psABI, 3.2.2).
  static constexpr std::uintptr_t kRedZone = 128;
  /// The general registers, with stack pointer and program counter.
  static std::span<const greg_t> registers(const ucontext_t &context) {
    return {context.uc_mcontext.gregs, static_cast<std::size_t>(REG_RIP) + 1};
  }
  /// Of the calling thread. The word it points to is its own address (psABI of thread-local storage).
  static std::uintptr_t thread_pointer() {
    std::uintptr_t pointer = 0;
    __asm__("mov %%fs:0, %0" : "=r"(pointer));
    return pointer;
  }

  // ---- a system call that was interrupted: its result is in rax, where its number was

  /// So many bytes before the program counter tell the number.
  static constexpr std::size_t kCallBytes = 24;
  static bool was_interrupted(const ucontext_t &context) { return context.uc_mcontext.gregs[REG_RAX] == -EINTR; }
  static std::uintptr_t argument(const ucontext_t &context, std::size_t k) {
    static constexpr int kRegisters[] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};
    return static_cast<std::uintptr_t>(context.uc_mcontext.gregs[kRegisters[k]]);
  }
  /// Whether the code ends in a system call, and its number where the instructions before it tell: -1 otherwise.
  static bool is_call(const std::uint8_t (&code)[kCallBytes]) {
    return code[kCallBytes - 2] == 0x0f && code[kCallBytes - 1] == 0x05;
  }
  static long call_number(const std::uint8_t (&code)[kCallBytes], const ucontext_t &context) {
    constexpr std::size_t kEnd = kCallBytes - 2;
    // xor eax, eax. mov eax, register, which still has it; the registers in the order of their numbers.
    static constexpr int kRegisters[] = {-1,     -1,     REG_RDX, REG_RBX, -1,      REG_RBP, REG_RSI, REG_RDI,
                                         REG_R8, REG_R9, REG_R10, -1,      REG_R12, REG_R13, REG_R14, REG_R15};
    if (code[kEnd - 2] == 0x31 && code[kEnd - 1] == 0xc0) return 0;
    if (code[kEnd - 2] == 0x89 && (code[kEnd - 1] & 0xc7) == 0xc0) {
      const int from = kRegisters[(code[kEnd - 1] >> 3 & 7) + (code[kEnd - 3] == 0x44 ? 8 : 0)];
      return from < 0 ? -1 : static_cast<std::int32_t>(context.uc_mcontext.gregs[from]);
    }
    // mov eax, number; then, where the call can be cancelled, arguments are loaded from the stack.
    for (std::size_t at = kEnd - 5;; --at) {
      if (code[at] == 0xb8 && are_loads(code, at + 5, kEnd)) {
        std::int32_t number = 0;
        std::memcpy(&number, code + at + 1, sizeof number);
        return number;
      }
      if (at == 0) return -1;
    }
  }
  /// The call is made again when the thread goes on.
  static void call_again(ucontext_t &context, long number, std::uintptr_t) {
    context.uc_mcontext.gregs[REG_RAX] = number;
    context.uc_mcontext.gregs[REG_RIP] -= static_cast<greg_t>(kSystemCall);
  }
  /// Whether call_again() needs the first argument, since the result is where it was.
  static constexpr bool kResultIsArgument = false;

 private:
  /// Nothing but mov register, [rsp + n], the register being another than eax.
  static bool are_loads(const std::uint8_t (&code)[kCallBytes], std::size_t at, std::size_t end) {
    while (at < end) {
      const bool has_prefix = (code[at] & 0xf0) == 0x40;
      const std::uint8_t prefix = has_prefix ? code[at++] : 0;
      if (end - at < 3 || code[at] != 0x8b || (code[at + 1] & 0x87) != 0x04 || code[at + 2] != 0x24) return false;
      const bool is_eax = (code[at + 1] & 0x38) == 0 && (prefix & 4) == 0;
      if (is_eax) return false;
      at += (code[at + 1] & 0x40) != 0 ? 4 : 3;
    }
    return at == end;
  }
};

}  // namespace shunt::core::arch
