// foreign_elf.hpp: writes one small shared library for any machine, 32 or 64 bits, either byte order, byte by byte as the gABI
// says, and so without the library that the code under test reads it with.
//
// What is in it:  taken@V_1 of libgiver.so   a jump slot, and for an absolute word
//                 maybe                      weak, a GOT word
//                 given@@OWN_1               a function it defines
//                 table                      data it defines
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "arch/machines.hpp"

namespace unit {

struct ForeignSpec {
  shunt::core::arch::Machine machine;
  bool has_addends = true;    // DT_RELA, else DT_REL
  bool has_gnu_hash = false;  // else DT_HASH
};

std::vector<std::uint8_t> write_foreign_elf(const ForeignSpec &spec);

}  // namespace unit
