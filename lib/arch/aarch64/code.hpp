// Aarch64Code: entry redirects on AArch64. The jump is `b`, one instruction that reaches ±128 MiB, to the replacement or to a stub
// near the function. One instruction is displaced, so no thread can stand inside what changes.
//
// What stays first. With branch target identification a call by pointer must land on `bti c` or on an instruction that signs the
// return address. `bti` stays, and the jump goes behind it. `paciasp` cannot: the replacement signs the address too, and signed
// twice it would not be good to return by. It is displaced, `bti c` takes its place, and the jump comes second; here a thread can
// stand between the two.
//
// What the trampoline does: the displaced instruction's target is named by a pair (adrp, add), or the opposite condition jumps over a
// `b`. x16 holds an address where no register of the instruction's own can: nothing is in x16 when a function begins, since the
// linker may put code that uses it between caller and callee (AAPCS64, 6.1.1). The trampoline must lie within reach of `b`,
// because its way back leads to an instruction that is no landing place for any other.
//
// Not done here: a function that jumps back to its own entry is not copied, and a jump through a table is not followed; both are
// refused.
#pragma once

#include "arch/aarch64/instruction.hpp"
#include "arch/code.hpp"

namespace shunt::core::arch {

struct Aarch64Code {
  static constexpr std::uint64_t kReach = (std::uint64_t{128} << 20) - (std::uint64_t{1} << 20);
  static constexpr std::uint32_t kAlignment = 16;
  static constexpr std::uint32_t kStubBytes = 16;
  static constexpr std::uint8_t kTrap[] = {0x00, 0x00, 0x20, 0xd4};  // brk #0

  static bool ready() { return true; }
  static bool is_ready() { return true; }
  static EntryPlan plan(const Function &function);
  static std::size_t size_of_return(const Bytes &code);
  static bool reaches(const EntryPlan &plan, std::uint64_t function, std::uint64_t target);
  static EntryBytes entry_bytes(const EntryPlan &plan, std::uint64_t function, std::uint64_t target);
  static CodeBytes stub(std::uint64_t address, std::uint64_t target);
  static Relocated relocate(const EntryPlan &plan, const Bytes &body, std::uint64_t address,
                            std::span<std::uint8_t> code, std::span<Boundary> boundaries, std::uint32_t &size);

  template <class Found>
  static void find_jumps(const Bytes &text, Found found) {
    for (std::size_t at = (4 - text.address % 4) % 4; at + 4 <= text.size; at += 4) {
      const aarch64::Instruction one = aarch64::decode(aarch64::word_at(text.data + at), text.address + at);
      if (one.jumps() || one.kind == aarch64::Kind::call) found(text.address + at, one.target);
    }
  }

  /// All jumps are as long as an instruction: find_jumps() has them. An address is taken by two instructions, adrp and add, which need
  /// not be neighbours: such uses are not seen.
  template <class Found>
  static void find_other_uses(const Bytes &, Found) {}
};

}  // namespace shunt::core::arch
