// sha256.hpp: the hash by which a patch file is named in the log. FIPS 180-4, section 6.2.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace shunt::core {

class Sha256 {
 public:
  void add(const void *bytes, std::size_t size);
  /// The hash of all that was added, in hexadecimal. Nothing may be added after.
  [[nodiscard]] std::string hex();

 private:
  void add_block(const std::uint8_t *block);

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::uint8_t, 64> rest_ = {};  // what does not fill a block yet
  std::uint64_t size_ = 0;
};

/// Two digits for each byte.
std::string to_hex(const std::uint8_t *bytes, std::size_t size);

}  // namespace shunt::core
