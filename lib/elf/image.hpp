// image.hpp: a bounds-checked view of an ELF object as it lies in memory.
//
// Everything is found through PT_DYNAMIC, never through section headers, which a loaded object need not have. Each table
// must lie inside one readable PT_LOAD segment of the object; counts, offsets and chains are bounded by that. An image that
// contradicts itself gives a Problem, never a fault and never an endless loop. Source: System V ABI, chapters 4 and 5.
//
// glibc relocates some pointers in .dynamic in place (DT_STRTAB, DT_SYMTAB, ...) and leaves others; musl and the vDSO leave
// all. So a value counts as an address when it lies in a segment, and as an offset from the load base otherwise.
#pragma once

#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "arch/native.hpp"
#include "base/error.hpp"

namespace shunt::core {

/// One relocation, from a table with addends (RELA) or without (REL).
struct Relocation {
  std::uintptr_t place;  // address of the word it applies to
  std::int64_t addend;   // RELA only; a REL table keeps it in the word, where the linker has overwritten it
  std::uint32_t symbol;
  arch::RelocKind kind;
  bool has_no_addend;  // the word is the symbol's address and nothing else
};

class Image {
 public:
  /// Reads the headers of the object whose program headers are given. `base` is what is added to its addresses (0 for an
  /// executable that is not position independent). On a Problem the image is empty.
  static Image parse(std::uintptr_t base, std::span<const Elf64_Phdr> headers, Problem &problem);

  /// An image of which only the place in memory is known.
  static Image placed(std::uintptr_t base, std::span<const Elf64_Phdr> headers);

  [[nodiscard]] std::uintptr_t base() const { return base_; }
  [[nodiscard]] std::span<const Elf64_Phdr> headers() const { return headers_; }

  /// Lowest address and end of the segments.
  [[nodiscard]] std::uintptr_t low() const { return low_; }
  [[nodiscard]] std::uintptr_t high() const { return high_; }
  /// The PT_LOAD segment that the `size` bytes at `address` lie in, or NULL.
  [[nodiscard]] const Elf64_Phdr *segment_at(std::uintptr_t address, std::size_t size = 1) const;
  [[nodiscard]] bool is_code(std::uintptr_t address) const;
  /// The word at `address` lies in memory that is written (RELRO included).
  [[nodiscard]] bool is_data(std::uintptr_t address) const;
  struct Range {
    std::uintptr_t begin = 0, end = 0;
    [[nodiscard]] bool has_word(std::uintptr_t address) const {
      return address >= begin && address < end && end - address >= sizeof(std::uintptr_t);
    }
  };
  /// The written segment that the word at `address` lies in, empty (0, 0) when it lies in none.
  [[nodiscard]] Range data_around(std::uintptr_t address) const;
  /// PT_GNU_RELRO as addresses, empty (0, 0) when there is none. Not rounded to pages.
  [[nodiscard]] Range relro() const;

  // Strings. "" when absent.
  [[nodiscard]] const char *soname() const;
  [[nodiscard]] std::span<const std::uint8_t> build_id() const;
  /// DT_NEEDED names, one by one: the k-th, or NULL behind the last.
  [[nodiscard]] const char *needed(std::size_t k) const;
  [[nodiscard]] bool binds_symbolically() const { return symbolic_; }
  /// Linked with -z now: no slot is bound lazily.
  [[nodiscard]] bool binds_at_start() const { return now_; }
  [[nodiscard]] bool has_text_relocations() const { return text_relocations_; }

  // Symbols.
  [[nodiscard]] std::uint32_t symbol_limit() const { return symbol_limit_; }
  /// `index` must be below symbol_limit().
  [[nodiscard]] const Elf64_Sym &symbol(std::uint32_t index) const { return symbols_[index]; }
  /// The string at an offset of the string table, or "" when it lies outside.
  [[nodiscard]] const char *string(std::uint32_t offset) const {
    return offset < strings_size_ ? strings_ + offset : "";
  }
  [[nodiscard]] const char *symbol_name(std::uint32_t index) const { return string(symbols_[index].st_name); }
  /// Up to here bytes may be read when a name is taken in words.
  [[nodiscard]] const char *strings_readable_end() const { return strings_readable_end_; }
  [[nodiscard]] std::uint32_t strings_size() const { return strings_size_; }
  [[nodiscard]] std::uintptr_t symbol_address(const Elf64_Sym &symbol) const {
    return symbol.st_shndx == SHN_ABS ? symbol.st_value : base_ + symbol.st_value;
  }

  // Relocations: three tables (DT_RELA, DT_JMPREL, DT_REL), addressed by a reference that fits 32 bits.
  static constexpr unsigned kTables = 3;
  using RelocationRef = std::uint32_t;  // table in the upper 2 bits, position in the lower 30
  static constexpr unsigned kTableShift = 30;
  struct Table {
    const void *entries = nullptr;
    std::uint32_t count = 0;
    bool with_addend = true;
  };
  [[nodiscard]] const Table &table(unsigned k) const { return tables_[k]; }
  [[nodiscard]] std::size_t relocation_count() const {
    return std::size_t{tables_[0].count} + tables_[1].count + tables_[2].count;
  }
  [[nodiscard]] Relocation relocation(RelocationRef ref) const;

  // Used by symbols.cpp and versions.cpp.
  struct Versions {
    const Elf64_Half *symbols = nullptr;  // one for each symbol, or NULL
    const Elf64_Verneed *needs = nullptr;
    const Elf64_Verdef *definitions = nullptr;
    std::uint32_t needs_count = 0, definitions_count = 0;
  };
  [[nodiscard]] const Versions &versions() const { return versions_; }
  [[nodiscard]] const std::uint32_t *gnu_hash() const { return gnu_hash_; }
  [[nodiscard]] const std::uint32_t *sysv_hash() const { return sysv_hash_; }
  /// A pointer to `count` items of T at `address` when all lie in one readable segment, in the part that comes from the file,
  /// and are aligned; else NULL.
  template <class T>
  [[nodiscard]] const T *at(std::uintptr_t address, std::size_t count = 1) const {
    if (count > SIZE_MAX / sizeof(T) || address % alignof(T) != 0) return nullptr;
    const std::uintptr_t end = readable_end(address);
    if (end == 0 || count * sizeof(T) > end - address) return nullptr;
    return reinterpret_cast<const T *>(address);
  }

 private:
  bool place(std::uintptr_t base, std::span<const Elf64_Phdr> headers);
  void read_dynamic(Problem &problem);
  void set_table(unsigned k, std::uintptr_t value, std::uint64_t size, bool with_addend, Problem &problem);
  [[nodiscard]] std::uintptr_t address_of(std::uint64_t value) const;
  /// Where the readable bytes that come from the file end, of the segment that holds `address`; 0 when it is none of them.
  /// What is zeros in memory only holds no table: so a small file cannot claim a table of a billion entries.
  [[nodiscard]] std::uintptr_t readable_end(std::uintptr_t address) const;

  std::uintptr_t base_ = 0, low_ = 0, high_ = 0;
  std::span<const Elf64_Phdr> headers_;
  const Elf64_Dyn *dynamic_ = nullptr;
  std::uint32_t dynamic_count_ = 0;
  std::uint32_t symbol_limit_ = 0, strings_size_ = 0;
  const Elf64_Sym *symbols_ = nullptr;
  const char *strings_ = nullptr;
  const char *strings_readable_end_ = nullptr;
  const std::uint32_t *gnu_hash_ = nullptr;
  const std::uint32_t *sysv_hash_ = nullptr;
  Table tables_[kTables];
  Versions versions_;
  std::uint32_t soname_ = 0;
  bool symbolic_ = false, text_relocations_ = false, now_ = false;
};

inline Relocation Image::relocation(RelocationRef ref) const {
  const Table &table = tables_[ref >> kTableShift];
  const std::uint32_t position = ref & ((1U << kTableShift) - 1);
  const auto make = [this](const auto &entry, std::int64_t addend, bool is_addend_known) {
    const arch::RelocKind kind = arch::Native::kind(ELF64_R_TYPE(entry.r_info));
    return Relocation{base_ + entry.r_offset, addend, static_cast<std::uint32_t>(ELF64_R_SYM(entry.r_info)), kind,
                      kind != arch::RelocKind::absolute || (is_addend_known && addend == 0)};
  };
  if (table.with_addend) {
    const Elf64_Rela &entry = static_cast<const Elf64_Rela *>(table.entries)[position];
    return make(entry, entry.r_addend, true);
  }
  return make(static_cast<const Elf64_Rel *>(table.entries)[position], 0, false);
}

}  // namespace shunt::core
