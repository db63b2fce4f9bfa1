// name_hash.hpp: the hash that the import index is built on. ELF's own hashes cover only the symbols that an object defines,
// so the names of imports are hashed here: every name of every object once, which is most of what the first plan of a
// process costs. So it takes eight bytes a step and needs no strlen(). It is kept in memory only and may change freely.
// Names whose hashes collide are told apart by comparison, always.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace shunt::core {

/// Hashes the NUL-terminated string at `text`. `readable_end`: bytes before it may be read even if they lie behind the NUL;
/// the NUL itself must lie before it.
inline std::uint32_t name_hash(const char *text, const char *readable_end) {
  constexpr std::uint64_t kOnes = 0x0101010101010101U;
  constexpr std::uint64_t kMix = 0x9e3779b97f4a7c15U;
  std::uint64_t hash = 0;
  for (;;) {
    std::uint64_t word = 0;
    bool last = false;
    if (std::endian::native == std::endian::little && readable_end - text >= 8) {
      std::memcpy(&word, text, 8);
      // The lowest bit set in `zeros` marks the first zero byte; what lies behind it is cut off.
      const std::uint64_t zeros = (word - kOnes) & ~word & (kOnes << 7);
      last = zeros != 0;
      if (last) word &= ((zeros & -zeros) >> 7) - 1;
    } else {
      for (unsigned shift = 0; shift < 64; shift += 8, ++text) {
        if (*text == '\0') {
          last = true;
          break;
        }
        word |= static_cast<std::uint64_t>(static_cast<unsigned char>(*text)) << shift;
      }
      text -= 8;  // undone below; not looked at again when this was the last word
    }
    hash = (hash ^ word) * kMix;
    hash ^= hash >> 32;
    if (last) return static_cast<std::uint32_t>((hash * kMix) >> 32);
    text += 8;
  }
}

}  // namespace shunt::core
