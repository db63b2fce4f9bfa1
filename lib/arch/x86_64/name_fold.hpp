// name_fold.hpp: generic_name_fold() with SSE2, which every x86-64 has. Nothing in it leaves the registers. It is the
// innermost step of the first plan of a process.
#pragma once

#include <emmintrin.h>

#include <cstdint>

namespace shunt::core::arch {

inline bool x86_64_name_fold(const char *text, std::uint64_t (&folded)[2]) {
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
  // Each pair of 16-bit words times two odd numbers, added: 32 bytes become 16.
  const __m128i low_factors = _mm_setr_epi16(0x5bd1, 0x2b7d, 0x1f83, 0x4be7, 0x6a09, 0x3e4f, 0x5d31, 0x7ab1);
  const __m128i high_factors = _mm_setr_epi16(0x4f1b, 0x35a7, 0x6c8f, 0x52dd, 0x1b87, 0x27d5, 0x7c15, 0x38d1);
  const __m128i sum = _mm_add_epi32(_mm_madd_epi16(_mm_and_si128(low, load(kMask.bytes + 32 - size)), low_factors),
                                    _mm_madd_epi16(_mm_and_si128(high, load(kMask.bytes + 48 - size)), high_factors));
  folded[0] = static_cast<std::uint64_t>(_mm_cvtsi128_si64(sum));
  folded[1] = static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm_unpackhi_epi64(sum, sum)));
  return ends != 0;
}

}  // namespace shunt::core::arch
