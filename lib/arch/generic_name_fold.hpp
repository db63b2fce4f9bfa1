// generic_name_fold.hpp: the first 32 bytes of a name, without what lies behind its end, folded into two words, on any
// machine. An ISA may bring a faster one, with results of its own: they never leave the process.
#pragma once

#include <cstdint>
#include <cstring>

namespace shunt::core::arch {

/// Reads 32 bytes at `text`, all of which may be read; those behind the first zero byte do not count. True when there was a
/// zero byte.
inline bool generic_name_fold(const char *text, std::uint64_t (&folded)[2]) {
  std::uint64_t words[4];
  const void *end = std::memchr(text, 0, sizeof words);
  const std::size_t size =
      end != nullptr ? static_cast<std::size_t>(static_cast<const char *>(end) - text) : sizeof words;
  std::memset(words, 0, sizeof words);
  std::memcpy(words, text, size);
  folded[0] = words[0] * 0xd6e8feb86659fd93U + words[1] * 0x9e3779b97f4a7c15U;
  folded[1] = words[2] * 0xc2b2ae3d27d4eb4fU + words[3] * 0x165667b19e3779f9U;
  return end != nullptr;
}

}  // namespace shunt::core::arch
