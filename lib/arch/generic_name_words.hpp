// generic_name_words.hpp: the first 32 bytes of a name without what lies behind its end, on any machine. An ISA may bring a
// faster one (Native::name_words); both must give the same words.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace shunt::core::arch {

/// Reads 32 bytes at `text`, all of which may be read, into `words`; those behind the first zero byte become zero. True when
/// there was a zero byte.
inline bool generic_name_words(const char *text, std::uint64_t (&words)[4]) {
  if constexpr (std::endian::native == std::endian::little) {
    constexpr std::uint64_t kOnes = 0x0101010101010101U;
    std::memcpy(words, text, 32);
    std::uint64_t alive = ~std::uint64_t{0};
    for (std::uint64_t &word : words) {
      const std::uint64_t zeros =
          (word - kOnes) & ~word & (kOnes << 7);           // the lowest bit set marks the first zero byte
      word &= (((zeros & (0 - zeros)) >> 7) - 1) & alive;  // all ones when there is none
      alive = zeros != 0 ? 0 : alive;
    }
    return alive == 0;
  } else {
    const void *end = std::memchr(text, 0, 32);
    const std::size_t size = end != nullptr ? static_cast<std::size_t>(static_cast<const char *>(end) - text) : 32;
    for (std::size_t k = 0; k < 4; ++k) words[k] = 0;
    for (std::size_t k = 0; k < size; ++k)
      words[k / 8] |= static_cast<std::uint64_t>(static_cast<unsigned char>(text[k])) << (k % 8 * 8);
    return end != nullptr;
  }
}

}  // namespace shunt::core::arch
