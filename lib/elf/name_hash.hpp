// name_hash.hpp: the hash that the import index is built on. ELF's own hashes cover only the symbols that an object defines,
// so the names of imports are hashed here: every name of every object once, which is most of what the first plan of a
// process costs. So 32 bytes are taken at once, without a branch on where the name ends: names differ in length, and a
// branch that is guessed wrong costs more than the arithmetic. It is kept in memory only and may change freely. Names whose
// hashes collide are told apart by comparison, always.
#pragma once

#include <cstdint>

#include "arch/native.hpp"

namespace shunt::core {

namespace name_hash_parts {

constexpr std::uint64_t kMix[3] = {0x9e3779b97f4a7c15U, 0xc2b2ae3d27d4eb4fU, 0xd6e8feb86659fd93U};

inline std::uint64_t mixed(std::uint64_t hash, const std::uint64_t (&folded)[2]) {
  hash = (hash * kMix[2] + folded[0] * kMix[0]) ^ (folded[1] * kMix[1]);
  return hash ^ hash >> 32;
}
inline std::uint32_t finished(std::uint64_t hash) { return static_cast<std::uint32_t>((hash * kMix[0]) >> 32); }

}  // namespace name_hash_parts

/// name_hash() of what is long, or lies at the end of readable memory.
std::uint32_t name_hash_in_steps(const char *text, const char *readable_end);

/// Hashes the NUL-terminated string at `text`. `readable_end`: bytes before it may be read even if they lie behind the NUL;
/// the NUL itself must lie before it.
inline std::uint32_t name_hash(const char *text, const char *readable_end) {
  std::uint64_t folded[2];
  if (readable_end - text >= 32 && arch::name_fold(text, folded)) [[likely]]
    return name_hash_parts::finished(name_hash_parts::mixed(0, folded));
  return name_hash_in_steps(text, readable_end);
}

}  // namespace shunt::core
