// instruction.hpp: the AArch64 instructions that name a place relative to themselves, read and written. All others are the same
// wherever they lie. Source: Arm Architecture Reference Manual for A-profile, C4.1 "A64 instruction set encoding".
#pragma once

#include <cstdint>
#include <cstring>

namespace shunt::core::arch::aarch64 {

enum class Kind : std::uint8_t {
  plain,
  adr,
  adrp,
  load,         // ldr, ldrsw or prfm of what lies at a label; general or SIMD register
  jump,         // b
  call,         // bl
  conditional,  // b.cond, bc.cond
  compare,      // cbz, cbnz
  test,         // tbz, tbnz
  jump_through  // br and its authenticating forms
};

struct Instruction {
  std::uint32_t word = 0;
  Kind kind = Kind::plain;
  std::uint64_t target = 0;  // what it names; of adrp the page

  [[nodiscard]] bool jumps() const {
    return kind == Kind::jump || kind == Kind::conditional || kind == Kind::compare || kind == Kind::test;
  }
};

constexpr std::uint32_t kNop = 0xd503201f, kBtiC = 0xd503245f, kPaciasp = 0xd503233f, kPacibsp = 0xd503237f,
                        kBreak = 0xd4200000;

/// bti, bti c, bti j, bti jc
constexpr bool is_bti(std::uint32_t word) { return (word & 0xffffff3f) == 0xd503241f; }
/// They sign the return address, and a call by pointer may lead to them as to bti c.
constexpr bool is_sign(std::uint32_t word) { return word == kPaciasp || word == kPacibsp; }

inline std::uint32_t word_at(const std::uint8_t *bytes) {
  return static_cast<std::uint32_t>(bytes[0]) | static_cast<std::uint32_t>(bytes[1]) << 8 |
         static_cast<std::uint32_t>(bytes[2]) << 16 | static_cast<std::uint32_t>(bytes[3]) << 24;
}

inline void put_word(std::uint8_t *bytes, std::uint32_t word) {
  for (unsigned k = 0; k < 4; ++k) bytes[k] = static_cast<std::uint8_t>(word >> (8 * k));
}

/// The `width` bits of `word` from bit `low` on, as a signed number.
constexpr std::int64_t signed_field(std::uint32_t word, unsigned low, unsigned width) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(word >> low) << (64 - width)) >> (64 - width);
}

Instruction decode(std::uint32_t word, std::uint64_t address);

/// Writes `target` into an instruction at `address`. False when it does not reach that far.
bool aim(std::uint32_t &word, Kind kind, std::uint64_t address, std::uint64_t target);

}  // namespace shunt::core::arch::aarch64
