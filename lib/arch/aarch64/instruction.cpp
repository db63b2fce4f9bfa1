#include "arch/aarch64/instruction.hpp"

namespace shunt::core::arch::aarch64 {
namespace {

constexpr std::uint64_t kPage = 4096;  // of adrp, whatever the kernel's is

bool fits(std::int64_t value, unsigned width) {
  const std::int64_t limit = std::int64_t{1} << (width - 1);
  return value >= -limit && value < limit;
}

Kind kind_of(std::uint32_t word) {
  if ((word & 0x9f000000) == 0x10000000) return Kind::adr;
  if ((word & 0x9f000000) == 0x90000000) return Kind::adrp;
  // Of general registers opc 0 to 3 are ldr w, ldr x, ldrsw, prfm; of SIMD registers 3 is none.
  if ((word & 0x3b000000) == 0x18000000 && (word & 0xff000000) != 0xdc000000) return Kind::load;
  if ((word & 0xfc000000) == 0x14000000) return Kind::jump;
  if ((word & 0xfc000000) == 0x94000000) return Kind::call;
  if ((word & 0xff000000) == 0x54000000) return Kind::conditional;
  if ((word & 0x7e000000) == 0x34000000) return Kind::compare;
  if ((word & 0x7e000000) == 0x36000000) return Kind::test;
  if ((word & 0xfefff000) == 0xd61f0000) return Kind::jump_through;  // br; braaz, brabz; braa, brab
  return Kind::plain;
}

std::int64_t page_distance(std::uint32_t word) {
  return signed_field(word, 5, 19) * 4 + static_cast<std::int64_t>(word >> 29 & 3);
}

}  // namespace

Instruction decode(std::uint32_t word, std::uint64_t address) {
  Instruction instruction = {word, kind_of(word), 0};
  std::int64_t distance = 0;
  switch (instruction.kind) {
    case Kind::adr:
      distance = page_distance(word);
      break;
    case Kind::adrp:
      instruction.target = (address & ~(kPage - 1)) + static_cast<std::uint64_t>(page_distance(word)) * kPage;
      return instruction;
    case Kind::load:
    case Kind::conditional:
    case Kind::compare:
      distance = signed_field(word, 5, 19) * 4;
      break;
    case Kind::jump:
    case Kind::call:
      distance = signed_field(word, 0, 26) * 4;
      break;
    case Kind::test:
      distance = signed_field(word, 5, 14) * 4;
      break;
    case Kind::plain:
    case Kind::jump_through:
      return instruction;
  }
  instruction.target = address + static_cast<std::uint64_t>(distance);
  return instruction;
}

bool aim(std::uint32_t &word, Kind kind, std::uint64_t address, std::uint64_t target) {
  const auto distance = static_cast<std::int64_t>(target - address);
  const auto put = [&word](std::int64_t value, unsigned low, unsigned width) {
    const std::uint32_t mask = ((std::uint32_t{1} << width) - 1) << low;
    word = (word & ~mask) | (static_cast<std::uint32_t>(value) << low & mask);
    return true;
  };
  switch (kind) {
    case Kind::adr:
      return fits(distance, 21) && put(distance & 3, 29, 2) && put(distance >> 2, 5, 19);
    case Kind::adrp: {
      const std::int64_t pages = static_cast<std::int64_t>((target & ~(kPage - 1)) - (address & ~(kPage - 1))) >> 12;
      return fits(pages, 21) && put(pages & 3, 29, 2) && put(pages >> 2, 5, 19);
    }
    case Kind::load:
    case Kind::conditional:
    case Kind::compare:
      return (distance & 3) == 0 && fits(distance, 21) && put(distance >> 2, 5, 19);
    case Kind::jump:
    case Kind::call:
      return (distance & 3) == 0 && fits(distance, 28) && put(distance >> 2, 0, 26);
    case Kind::test:
      return (distance & 3) == 0 && fits(distance, 16) && put(distance >> 2, 5, 14);
    case Kind::plain:
    case Kind::jump_through:
      break;
  }
  return false;
}

}  // namespace shunt::core::arch::aarch64
