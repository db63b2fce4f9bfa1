// find_jumps.hpp: everything in a stretch of code that could be a jump or call with a 32-bit displacement, at whatever byte it
// begins. No decoder: a byte that only looks like one names a target in the same object about once in a thousand times, and too
// many is on the safe side. Jumps with 8 bits are left out, since every other byte looks like one: they lead no further than 128
// bytes, and what compilers write has them to the middle of a function only inside that function. To its beginning it has them
// from others as well (a call at the end of one, of a function that lies beside it): find_other_uses().
#pragma once

#include <cstring>

#include "arch/code.hpp"

namespace shunt::core::arch::x86_64 {

/// Calls found(from, to) with the address of the opcode and the target.
template <class Found>
void find_jumps(const Bytes &text, Found found) {
  if (text.size < 5) return;
  for (std::size_t at = 0; at <= text.size - 5; ++at) {
    const std::uint8_t byte = text.data[at];
    const bool is_near = (byte & 0xfe) == 0xe8;                                                // call, jmp
    const bool is_conditional = (byte & 0xf0) == 0x80 && at > 0 && text.data[at - 1] == 0x0f;  // jcc
    if (!is_near && !is_conditional) continue;
    std::int32_t displacement;
    std::memcpy(&displacement, text.data + at + 1, sizeof displacement);
    const std::uint64_t address = text.address + at;
    found(address - (is_conditional ? 1 : 0), address + 5 + static_cast<std::uint64_t>(std::int64_t{displacement}));
  }
}

/// The targets of jumps with 8 bits, nearly all of which are none; and addresses that code takes: lea relative to rip, and any four
/// bytes that are the number of an address, where addresses are so small (a program that is not position independent).
template <class Found>
void find_other_uses(const Bytes &text, Found found) {
  const bool has_small_addresses = text.address + text.size <= UINT32_MAX;
  for (std::size_t at = 0; at + 2 <= text.size; ++at) {
    const std::uint8_t byte = text.data[at];
    if (byte == 0xeb || (byte & 0xf0) == 0x70) {
      std::int8_t displacement;
      std::memcpy(&displacement, text.data + at + 1, sizeof displacement);
      found(text.address + at + 2 + static_cast<std::uint64_t>(std::int64_t{displacement}));
    }
    if (byte == 0x8d && (text.data[at + 1] & 0xc7) == 0x05 && at + 6 <= text.size) {
      std::int32_t displacement;
      std::memcpy(&displacement, text.data + at + 2, sizeof displacement);
      found(text.address + at + 6 + static_cast<std::uint64_t>(std::int64_t{displacement}));
    }
    if (has_small_addresses && at + 4 <= text.size) {
      std::uint32_t number;
      std::memcpy(&number, text.data + at, sizeof number);
      found(number);
    }
  }
}

}  // namespace shunt::core::arch::x86_64
