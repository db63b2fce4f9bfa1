// evidence.hpp: the proof that nothing changed: every slot of every object, and what protects the pages of every file.
// Read in a way of its own, without shunt. A program that compares all slots is run with LD_BIND_NOW=1, so that the dynamic
// linker has nothing left to bind in between.
#pragma once

#include <elf.h>
#include <link.h>

#include <cstdint>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

namespace evidence {

#if defined(__x86_64__)
constexpr std::uint32_t kSlotKinds[] = {R_X86_64_JUMP_SLOT, R_X86_64_GLOB_DAT, R_X86_64_64};
#elif defined(__aarch64__)
constexpr std::uint32_t kSlotKinds[] = {R_AARCH64_JUMP_SLOT, R_AARCH64_GLOB_DAT, R_AARCH64_ABS64};
#endif

using Slots = std::map<std::uintptr_t, std::uintptr_t>;

// Slots for data may lie between the variables that AddressSanitizer watches.
__attribute__((no_sanitize("address"))) inline void add_slots(std::uintptr_t base, std::uintptr_t table,
                                                              std::size_t size, Slots &slots) {
  const auto *entries = reinterpret_cast<const Elf64_Rela *>(table < base ? base + table : table);
  for (std::size_t k = 0; k < size / sizeof *entries; ++k)
    for (const std::uint32_t kind : kSlotKinds)
      if (ELF64_R_TYPE(entries[k].r_info) == kind && ELF64_R_SYM(entries[k].r_info) != 0)
        slots[base + entries[k].r_offset] = *reinterpret_cast<const std::uintptr_t *>(base + entries[k].r_offset);
}

/// The word in every slot, by its address.
inline Slots slots() {
  Slots all;
  dl_iterate_phdr(
      [](dl_phdr_info *info, std::size_t, void *out) {
        for (int h = 0; h < info->dlpi_phnum; ++h) {
          if (info->dlpi_phdr[h].p_type != PT_DYNAMIC) continue;
          std::map<Elf64_Sxword, std::uint64_t> tag;
          const auto *entry = reinterpret_cast<const Elf64_Dyn *>(info->dlpi_addr + info->dlpi_phdr[h].p_vaddr);
          for (; entry->d_tag != DT_NULL; ++entry) tag[entry->d_tag] = entry->d_un.d_val;
          auto &found = *static_cast<Slots *>(out);
          if (tag.count(DT_RELA) != 0) add_slots(info->dlpi_addr, tag[DT_RELA], tag[DT_RELASZ], found);
          if (tag.count(DT_JMPREL) != 0) add_slots(info->dlpi_addr, tag[DT_JMPREL], tag[DT_PLTRELSZ], found);
        }
        return 0;
      },
      &all);
  return all;
}

/// The lines of /proc/self/maps that belong to files.
inline std::string mappings() {
  std::ifstream maps("/proc/self/maps");
  std::string text, line, range, protection, offset, device, inode;
  while (std::getline(maps, line)) {
    std::istringstream(line) >> range >> protection >> offset >> device >> inode;
    // The first patch watches the dynamic linker, which leaves a page of it a mapping of its own (lib/objects/loader_watch.hpp).
    const bool is_watch = line.find("/memfd:shunt-") != std::string::npos ||
                          (protection == "r-xp" && line.find("/ld-linux") != std::string::npos);
    if (inode != "0" && !is_watch) text += line + '\n';
  }
  return text;
}

struct State {
  Slots slots;
  std::string mappings;
};

inline State state() { return {slots(), mappings()}; }

/// "" when the state is that of `before` still.
inline std::string difference(const State &before) {
  const State now = state();
  std::ostringstream text;
  for (const auto &[address, word] : before.slots)
    if (const auto found = now.slots.find(address); found == now.slots.end() || found->second != word)
      text << "the slot at " << std::hex << address << " held " << word << '\n';
  if (now.mappings != before.mappings) text << "mappings were:\n" << before.mappings << "and are:\n" << now.mappings;
  return text.str();
}

}  // namespace evidence
