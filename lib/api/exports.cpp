// exports.cpp: the functions of shunt.h, each one jump away from the engine that the process uses.
//
// There is one engine in a process, also when the program, a plugin and the shim each bring a copy of this library: two that
// wrote the same slots would each take the other for a stranger. Copies that are shared libraries find each other anyway,
// since the dynamic linker binds their names to the first. A copy that was linked statically has no names to be found by, so
// every copy carries an ELF note, as objects carry build-ids: name "shunt", type 1, and as its descriptor how far from there
// its table of functions lies. On first use the copy that comes first in load order is taken, by all alike.
#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "api/functions.hpp"

namespace shunt::api {

struct Table {
  std::uint32_t table_version;  // a copy that counts otherwise is not used
  std::uint32_t table_size;
#define SHUNT_FUNCTION(result, name, parameters, arguments) result(*name) parameters;
#include "api/functions.def"
#undef SHUNT_FUNCTION
};

constexpr std::uint32_t kVersion = 0;

}  // namespace shunt::api

using shunt::api::kVersion;
using shunt::api::Table;

extern "C" {
extern const Table shunt_own_table;
[[gnu::used]] const Table shunt_own_table = {
    kVersion, sizeof(Table),
#define SHUNT_FUNCTION(result, name, parameters, arguments) &shunt::api::name,
#include "api/functions.def"
#undef SHUNT_FUNCTION
};
}

__asm__(
    ".pushsection .note.shunt, \"a\", %note\n"
    ".balign 4\n"
    ".long 6, 8, 1\n"
    ".asciz \"shunt\"\n"
    ".balign 4\n"
    "0: .quad shunt_own_table - 0b\n"
    ".popsection\n");

namespace {

constexpr std::size_t kNoteSize = sizeof(Elf64_Nhdr) + 8 + sizeof(std::int64_t);

/// The table that a note segment of an object leads to, or NULL. The object's own segments bound what is believed.
const Table *table_in_notes(const dl_phdr_info &object, const Elf64_Phdr &notes) {
  const auto begin = object.dlpi_addr + notes.p_vaddr;
  const std::uint64_t align = notes.p_align == 8 ? 8 : 4;
  const auto padded = [align](std::uint64_t size) { return (size + align - 1) / align * align; };
  for (std::uint64_t at = 0; notes.p_memsz >= kNoteSize && at <= notes.p_memsz - kNoteSize;) {
    const auto *note = reinterpret_cast<const Elf64_Nhdr *>(begin + at);
    const auto *name = reinterpret_cast<const char *>(note + 1);
    at += sizeof(Elf64_Nhdr) + padded(note->n_namesz) + padded(note->n_descsz);
    if (note->n_type != 1 || note->n_namesz != 6 || note->n_descsz != 8 || std::memcmp(name, "shunt", 6) != 0) continue;
    std::int64_t distance = 0;
    std::memcpy(&distance, name + 8, sizeof distance);
    const auto table = reinterpret_cast<std::uintptr_t>(name + 8) + static_cast<std::uint64_t>(distance);
    for (int k = 0; k < object.dlpi_phnum; ++k) {
      const Elf64_Phdr &segment = object.dlpi_phdr[k];
      const std::uintptr_t low = object.dlpi_addr + segment.p_vaddr;
      if (segment.p_type == PT_LOAD && table >= low && table - low <= segment.p_memsz &&
          segment.p_memsz - (table - low) >= sizeof(Table))
        return reinterpret_cast<const Table *>(table);
    }
    return nullptr;
  }
  return nullptr;
}

/// Runs with the loader's lock held, so it must not allocate.
int look_at_object(dl_phdr_info *object, std::size_t, void *result) {
  for (int k = 0; k < object->dlpi_phnum; ++k) {
    if (object->dlpi_phdr[k].p_type != PT_NOTE) continue;
    const Table *table = table_in_notes(*object, object->dlpi_phdr[k]);
    if (table == nullptr || table->table_version != kVersion || table->table_size != sizeof(Table)) continue;
    *static_cast<const Table **>(result) = table;
    return 1;
  }
  return 0;
}

std::atomic<const Table *> chosen_table = nullptr;

const Table *choose_table() {
  const Table *table = &shunt_own_table;
  dl_iterate_phdr(&look_at_object, &table);
  // The object with the engine must stay, whoever closes it.
  Dl_info info{};
  if (dladdr(table, &info) != 0 && info.dli_fname != nullptr)
    dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
  chosen_table.store(table, std::memory_order_release);
  return table;
}

const Table &engine() {
  const Table *table = chosen_table.load(std::memory_order_acquire);
  return table != nullptr ? *table : *choose_table();
}

}  // namespace

extern "C" {
#define SHUNT_FUNCTION(result, name, parameters, arguments) \
  result shunt_##name parameters { return engine().name arguments; }
#include "api/functions.def"
#undef SHUNT_FUNCTION
}
