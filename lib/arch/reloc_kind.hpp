// reloc_kind.hpp: what a relocation type means to shunt, whatever the machine.
#pragma once

#include <cstdint>

namespace shunt::core::arch {

enum class RelocKind : std::uint8_t {
  other,      // nothing that holds the address of a symbol in one word
  jump_slot,  // S: .got.plt, bound lazily or at start
  glob_dat,   // S: .got
  absolute,   // S + A: a pointer in data (vtable, table of functions)
};

constexpr const char *kind_name(RelocKind kind) {
  switch (kind) {
    case RelocKind::jump_slot:
      return "jump_slot";
    case RelocKind::glob_dat:
      return "glob_dat";
    case RelocKind::absolute:
      return "absolute";
    case RelocKind::other:
      break;
  }
  return "other";
}

}  // namespace shunt::core::arch
