// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// objects.hpp: the loaded objects, as plainly as they can be read.
//
// The bench must not measure shunt with shunt's own code, so this is a second, naive reading of what PT_DYNAMIC names. It
// trusts what it reads: the objects are ours and libc's. Every relocation that has a symbol counts as a slot, which is
// true of all that it is compared with (the generated objects know no other kind).
#pragma once

#include <elf.h>
#include <link.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace bench {

static_assert(sizeof(void *) == 8, "ELF64 with RELA only");

struct Object {
  std::uintptr_t base = 0;
  std::span<const Elf64_Rela> tables[2];  // DT_RELA, DT_JMPREL
  const Elf64_Sym *symbols = nullptr;
  const char *strings = nullptr;
  std::uintptr_t relro_begin = 0, relro_end = 0;  // the pages that are read-only after relocation

  const char *name_of(std::uint64_t symbol) const { return strings + symbols[symbol].st_name; }
  bool protects(std::uintptr_t address) const { return relro_begin <= address && address < relro_end; }

  // Calls visit(address of the slot, name of the symbol) for each slot.
  template <class Visit>
  void for_each_slot(Visit visit) const {
    for (auto table : tables)
      for (const Elf64_Rela &relocation : table)
        if (std::uint64_t symbol = ELF64_R_SYM(relocation.r_info)) visit(base + relocation.r_offset, name_of(symbol));
  }
};

Object read_object(const dl_phdr_info &info);

// Calls visit(object) for each loaded object, in the order of loading.
template <class Visit>
void for_each_object(Visit visit) {
  dl_iterate_phdr(
      [](dl_phdr_info *info, std::size_t, void *data) {
        (*static_cast<Visit *>(data))(read_object(*info));
        return 0;
      },
      &visit);
}

std::vector<Object> loaded_objects();

std::uintptr_t page_size();
std::uintptr_t page_of(std::uintptr_t address);

// One function that is to be redirected.
struct Target {
  std::string symbol;
  void *replacement;
};

// The pages of one object that hold the slots of some targets, as far as they are protected.
struct Span {
  std::size_t object;    // its place in loaded_objects()
  std::uintptr_t begin;  // an address; in a file, the distance from the object's base
  std::size_t size;      // 0: all slots lie in pages that stay writable
  std::size_t slots;
};

// One span for each object that has a slot of one of the targets, in the order of the objects.
std::vector<Span> spans_of(const std::vector<Object> &objects, const std::vector<Target> &targets);

}  // namespace bench
