// x86-64 relocations. Source: System V ABI, AMD64 Architecture Processor Supplement, 4.4.1 "Relocation Types".
#pragma once

#include <cstdint>

#include "arch/reloc_kind.hpp"

namespace shunt::core::arch {

struct X86_64 {
  static constexpr const char *kName = "x86-64";
  static constexpr std::uint16_t kMachine = 62;  // EM_X86_64

  static constexpr RelocKind kind(std::uint32_t type) {
    switch (type) {
      case 7:
        return RelocKind::jump_slot;  // R_X86_64_JUMP_SLOT
      case 6:
        return RelocKind::glob_dat;  // R_X86_64_GLOB_DAT
      case 1:
        return RelocKind::absolute;  // R_X86_64_64
      default:
        return RelocKind::other;
    }
  }

  /// Asks the resolver of an STT_GNU_IFUNC symbol which function it means. It takes no arguments on this machine.
  static std::uintptr_t run_resolver(std::uintptr_t resolver) {
    return reinterpret_cast<std::uintptr_t (*)()>(resolver)();
  }
};

}  // namespace shunt::core::arch
