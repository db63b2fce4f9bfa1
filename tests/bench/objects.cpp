// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "objects.hpp"

#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <unordered_set>

namespace bench {

std::uintptr_t page_size() {
  static const auto size = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  return size;
}

std::uintptr_t page_of(std::uintptr_t address) { return address & ~(page_size() - 1); }

Object read_object(const dl_phdr_info &info) {
  Object object;
  object.base = info.dlpi_addr;
  const Elf64_Dyn *dynamic = nullptr;
  for (const Elf64_Phdr &header : std::span(info.dlpi_phdr, info.dlpi_phnum)) {
    if (header.p_type == PT_DYNAMIC) dynamic = reinterpret_cast<const Elf64_Dyn *>(object.base + header.p_vaddr);
    if (header.p_type == PT_GNU_RELRO) {
      object.relro_begin = page_of(object.base + header.p_vaddr);
      object.relro_end = page_of(object.base + header.p_vaddr + header.p_memsz);
    }
  }
  std::uintptr_t by_tag[DT_JMPREL + 1] = {};  // all the tags wanted are at most DT_JMPREL
  for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++)
    if (dynamic->d_tag <= DT_JMPREL) by_tag[dynamic->d_tag] = dynamic->d_un.d_val;

  // glibc adds the base to the pointers in place, but not in the vDSO.
  const auto at = [&](int tag) { return by_tag[tag] < object.base ? object.base + by_tag[tag] : by_tag[tag]; };
  object.symbols = reinterpret_cast<const Elf64_Sym *>(at(DT_SYMTAB));
  object.strings = reinterpret_cast<const char *>(at(DT_STRTAB));
  object.tables[0] = {reinterpret_cast<const Elf64_Rela *>(at(DT_RELA)), by_tag[DT_RELASZ] / sizeof(Elf64_Rela)};
  object.tables[1] = {reinterpret_cast<const Elf64_Rela *>(at(DT_JMPREL)), by_tag[DT_PLTRELSZ] / sizeof(Elf64_Rela)};
  return object;
}

std::vector<Object> loaded_objects() {
  std::vector<Object> objects;
  for_each_object([&](const Object &object) { objects.push_back(object); });
  return objects;
}

std::vector<Span> spans_of(const std::vector<Object> &objects, const std::vector<Target> &targets) {
  std::unordered_set<std::string_view> wanted;
  for (const Target &target : targets) wanted.insert(target.symbol);

  std::vector<Span> spans;
  for (std::size_t k = 0; k < objects.size(); k++) {
    std::size_t slots = 0;
    std::uintptr_t begin = UINTPTR_MAX, end = 0;
    objects[k].for_each_slot([&](std::uintptr_t slot, const char *name) {
      if (!wanted.contains(name)) return;
      slots++;
      if (!objects[k].protects(slot)) return;
      begin = std::min(begin, page_of(slot));
      end = std::max(end, page_of(slot) + page_size());
    });
    if (slots > 0) spans.push_back({k, end ? begin : 0, end ? end - begin : 0, slots});
  }
  return spans;
}

}  // namespace bench
