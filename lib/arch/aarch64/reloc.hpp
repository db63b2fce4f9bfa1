// AArch64 relocations. Source: ELF for the Arm 64-bit Architecture (AAELF64), 5.7.16 "Dynamic relocations"; the arguments
// of an IFUNC resolver: Arm C library support, sys/ifunc.h.
#pragma once

#include <sys/auxv.h>

#include <cstdint>

#include "arch/reloc_kind.hpp"

namespace shunt::core::arch {

struct Aarch64 {
  static constexpr const char *kName = "aarch64";
  static constexpr std::uint16_t kMachine = 183;  // EM_AARCH64

  static constexpr RelocKind kind(std::uint32_t type) {
    switch (type) {
      case 1026:
        return RelocKind::jump_slot;  // R_AARCH64_JUMP_SLOT
      case 1025:
        return RelocKind::glob_dat;  // R_AARCH64_GLOB_DAT
      case 257:
        return RelocKind::absolute;  // R_AARCH64_ABS64
      default:
        return RelocKind::other;
    }
  }

  /// The resolver gets AT_HWCAP with bit 62 set, and a pointer to {size, AT_HWCAP, AT_HWCAP2}.
  static std::uintptr_t run_resolver(std::uintptr_t resolver) {
    struct {
      std::uint64_t size, hwcap, hwcap2;
    } const features = {sizeof features, getauxval(AT_HWCAP), getauxval(AT_HWCAP2)};
    using Resolver = std::uintptr_t (*)(std::uint64_t, const void *);
    return reinterpret_cast<Resolver>(resolver)(features.hwcap | (std::uint64_t{1} << 62), &features);
  }
};

}  // namespace shunt::core::arch
