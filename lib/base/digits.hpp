// digits.hpp: reads the numbers in what the kernel writes as text. Nothing here depends on a locale, allocates or sets errno.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace shunt::core {

/// Takes the digits that `text` begins with. False when there is none.
inline bool take_digits(std::string_view &text, unsigned base, std::uint64_t &value) {
  value = 0;
  std::size_t k = 0;
  for (; k < text.size(); ++k) {
    const char c = text[k];
    const unsigned digit = c >= '0' && c <= '9'                 ? static_cast<unsigned>(c - '0')
                           : c >= 'a' && c <= 'f' && base == 16 ? static_cast<unsigned>(c - 'a') + 10
                                                                : base;
    if (digit >= base) break;
    value = value * base + digit;
  }
  text.remove_prefix(k);
  return k > 0;
}

}  // namespace shunt::core
