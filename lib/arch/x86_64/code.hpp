// X86_64Code: entry redirects on x86-64. The jump is `jmp rel32`, five bytes that reach ±2 GiB, to the replacement or to a stub
// near the function: `jmp [rip]` with the address behind it. Never push and ret: a shadow stack would not hold the address.
//
// What the trampoline does with a displaced instruction, and why:
//   names memory by rip   the displacement is made to fit. Out of reach: refused, nothing else is the same instruction.
//   jmp, jcc              the long form. What leads to another displaced instruction leads to it inside the trampoline.
//   loop, jrcxz           have no long form: they jump over a short jump to a long one.
//   call                  a call, so that a shadow stack sees the same pairs. It returns into the trampoline, not to the bytes that
//                         were changed; frames are unwound through it by what elf/call_frames.hpp writes for it. A call whose
//                         return address is read as data (call to the next instruction) is refused.
//   endbr64               stays first in the function, and is first in the trampoline as well, which is called by pointer.
//
// A function that jumps back to its own entry (a loop begins there) would run into its replacement halfway. It is copied as a
// whole, so that the loop runs in the trampoline. Where that cannot be shown to be right it is refused.
#pragma once

#include "arch/code.hpp"
#include "arch/x86_64/find_jumps.hpp"

namespace shunt::core::arch {

struct X86_64Code {
  /// What a jump reaches: less than rel32, so that stubs and trampolines a few pages further still do.
  static constexpr std::uint64_t kReach = (std::uint64_t{1} << 31) - (std::uint64_t{1} << 20);
  /// Alignment of a trampoline or stub.
  static constexpr std::uint32_t kAlignment = 16;
  static constexpr std::uint32_t kStubBytes = 14;
  /// Filling that stops whoever runs into it, and what a breakpoint writes over the first byte of an instruction.
  static constexpr std::uint8_t kTrap[] = {0xcc};

  /// False when nothing can be planned or relocated here, since the decoder's library is missing; but for a function that does
  /// nothing but return. Loads it.
  static bool ready();
  /// Whether it has been loaded.
  static bool is_ready();
  static EntryPlan plan(const Function &function);
  /// How long a function at code.address is that does nothing but return; 0: it does more. Needs no decoder.
  static std::size_t size_of_return(const Bytes &code);
  /// Whether the jump of the plan reaches `target`. Otherwise it must go to a stub near the function.
  static bool reaches(const EntryPlan &plan, std::uint64_t function, std::uint64_t target);
  /// `target` is reached.
  static EntryBytes entry_bytes(const EntryPlan &plan, std::uint64_t function, std::uint64_t target);
  /// A jump that reaches everything, to lie at `address`.
  static CodeBytes stub(std::uint64_t address, std::uint64_t target);
  /// The trampoline of a planned function, to lie at `address`. `code` needs plan.trampoline_bytes, `boundaries` one more than
  /// plan.instructions: the last is where the trampoline goes back. `size` is what it takes.
  static Relocated relocate(const EntryPlan &plan, const Bytes &body, std::uint64_t address,
                            std::span<std::uint8_t> code, std::span<Boundary> boundaries, std::uint32_t &size);

  template <class Found>
  static void find_jumps(const Bytes &text, Found found) {
    x86_64::find_jumps(text, found);
  }
  template <class Found>
  static void find_other_uses(const Bytes &text, Found found) {
    x86_64::find_other_uses(text, found);
  }
};

}  // namespace shunt::core::arch
