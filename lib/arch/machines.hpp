// machines.hpp: the machines whose files the command line can read, whichever machine it runs on: which relocation types of
// each are slots. Sources: the processor supplements of the System V ABI for i386, Arm (AAELF32), RISC-V, PowerPC64 (ELFv2)
// and s390x; x86-64 and AArch64 are spelled in their own folders. The library itself needs only arch::Native.
#pragma once

#include <array>
#include <cstdint>

#include "arch/aarch64/reloc.hpp"
#include "arch/reloc_kind.hpp"
#include "arch/x86_64/reloc.hpp"

namespace shunt::core::arch {

struct Machine {
  const char *name;
  std::uint16_t number;  // e_machine
  bool is_64_bit;
  bool is_big_endian;
  std::uint32_t jump_slot, glob_dat, absolute;  // relocation types

  [[nodiscard]] constexpr RelocKind kind(std::uint32_t type) const {
    if (type == jump_slot) return RelocKind::jump_slot;
    if (type == glob_dat) return RelocKind::glob_dat;
    return type == absolute ? RelocKind::absolute : RelocKind::other;
  }
};

constexpr std::uint32_t kNoType = 0xffffffff;

// RISC-V has no GLOB_DAT: its GOT is filled by R_RISCV_64, as any other word is.
inline constexpr std::array kMachines = {
    Machine{X86_64::kName, X86_64::kMachine, true, false, 7, 6, 1},
    Machine{Aarch64::kName, Aarch64::kMachine, true, false, 1026, 1025, 257},
    Machine{"i386", 3, false, false, 7, 6, 1},            // R_386_JMP_SLOT, R_386_GLOB_DAT, R_386_32
    Machine{"arm", 40, false, false, 22, 21, 2},          // R_ARM_JUMP_SLOT, R_ARM_GLOB_DAT, R_ARM_ABS32
    Machine{"riscv64", 243, true, false, 5, kNoType, 2},  // R_RISCV_JUMP_SLOT, R_RISCV_64
    Machine{"ppc64le", 21, true, false, 21, 20, 38},      // R_PPC64_JMP_SLOT, R_PPC64_GLOB_DAT, R_PPC64_ADDR64
    Machine{"s390x", 22, true, true, 11, 10, 22},         // R_390_JMP_SLOT, R_390_GLOB_DAT, R_390_64
};

/// The machine that the head of an ELF file names; NULL for one that is not in the list.
constexpr const Machine *find_machine(std::uint16_t number, bool is_64_bit, bool is_big_endian) {
  for (const Machine &machine : kMachines)
    if (machine.number == number && machine.is_64_bit == is_64_bit && machine.is_big_endian == is_big_endian)
      return &machine;
  return nullptr;
}

}  // namespace shunt::core::arch
