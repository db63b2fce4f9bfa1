// name_words.hpp: generic_name_words() with SSE2, which every x86-64 has: a compare and a mask instead of four searches for
// a zero byte. About three times as fast. It is the innermost step of the first plan of a process.
#pragma once

#include <emmintrin.h>

#include <cstdint>

namespace shunt::core::arch {

inline bool x86_64_name_words(const char *text, std::uint64_t (&words)[4]) {
  // 32 bytes from kMask + 32 - n are n times 0xff, then zeros.
  alignas(64) static constexpr auto kMask = [] {
    struct {
      unsigned char bytes[64];
    } mask = {};
    for (int k = 0; k < 32; ++k) mask.bytes[k] = 0xff;
    return mask;
  }();
  const auto load = [](const void *from) { return _mm_loadu_si128(static_cast<const __m128i *>(from)); };
  const __m128i low = load(text), high = load(text + 16), zero = _mm_setzero_si128();
  const auto ends = static_cast<std::uint64_t>(static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(low, zero)))) |
                    static_cast<std::uint64_t>(static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(high, zero))))
                        << 16;
  const auto size = static_cast<unsigned>(__builtin_ctzll(ends | std::uint64_t{1} << 32));
  _mm_storeu_si128(reinterpret_cast<__m128i *>(words), _mm_and_si128(low, load(kMask.bytes + 32 - size)));
  _mm_storeu_si128(reinterpret_cast<__m128i *>(words + 2), _mm_and_si128(high, load(kMask.bytes + 48 - size)));
  return ends != 0;
}

}  // namespace shunt::core::arch
