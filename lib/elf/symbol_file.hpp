// symbol_file.hpp: the full symbol table of an ELF file of this machine, and what says which file belongs to which.
//
// An object in memory has .dynsym, its exported functions; the others are in .symtab, which is in the file only, or in a file of
// its own when the object was stripped. Section headers lead to it; no other part of shunt that runs in a server goes by them.
//
// Three tables are read, by this code and not by libelf: that would be one more library which every server with shunt in it
// needs. Nothing is mapped, since a file that is cut short while it is mapped ends the process with SIGBUS. Every number in the
// file is hostile until checked, and how much is read is bounded by the file's size and the limits below.
#pragma once

#include <elf.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "base/page_vector.hpp"

namespace shunt::core {

class SymbolFile {
 public:
  static constexpr std::uint64_t kMaximumSymbols = std::uint64_t{1} << 24;
  static constexpr std::uint64_t kMaximumStrings = std::uint64_t{256} << 20;

  /// Opens the file and reads its headers. False, and the end of a sentence in `why` ("is not an ELF file").
  static bool open(const char *path, SymbolFile &file, std::string &why);

  [[nodiscard]] const std::string &path() const { return path_; }
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] std::span<const std::uint8_t> build_id() const { return build_id_; }
  [[nodiscard]] bool has_symbols() const { return symbols_.size > 0; }
  /// Of .gnu_debuglink; "" when there is none, or one that is no plain file name.
  [[nodiscard]] const std::string &debug_link() const { return debug_link_; }
  [[nodiscard]] std::uint32_t debug_link_sum() const { return debug_link_sum_; }

  /// The strings that the symbols' names are offsets in, with a NUL behind the last.
  bool read_strings(PageVector<char> &strings, std::string &why) const;
  /// Calls `visit(symbol)` for each, in the file's order.
  template <class Visit>
  bool for_each_symbol(Visit visit, std::string &why) const {
    Elf64_Sym some[kAtOnce];
    for (std::uint64_t k = 0; k < symbols_.size / sizeof(Elf64_Sym);) {
      const std::uint64_t left = symbols_.size / sizeof(Elf64_Sym) - k;
      const std::size_t count = left < kAtOnce ? left : kAtOnce;
      if (!read_at(some, count * sizeof(Elf64_Sym), symbols_.offset + k * sizeof(Elf64_Sym))) {
        why = "has symbols that cannot be read";
        return false;
      }
      for (std::size_t one = 0; one < count; ++one) visit(some[one]);
      k += count;
    }
    return true;
  }
  /// The CRC-32 of the whole file, as .gnu_debuglink has it. False when it cannot be read.
  bool sum(std::uint32_t &sum) const;

 private:
  static constexpr std::size_t kAtOnce = 1024;
  struct Part {
    std::uint64_t offset = 0, size = 0;
  };

  bool read_at(void *out, std::size_t size, std::uint64_t offset) const;
  [[nodiscard]] bool is_inside(const Part &part) const {
    return part.offset <= size_ && part.size <= size_ - part.offset;
  }
  const char *read_headers();
  const char *read_sections(const Elf64_Ehdr &header);
  void read_segments(const Elf64_Ehdr &header);
  void read_notes(const Part &notes, std::uint64_t align);
  void read_debug_link(const Part &link);
  [[nodiscard]] bool is_named(const Elf64_Shdr &section, const Part &names, const char *name) const;

  std::string path_;
  Fd fd_;
  std::uint64_t size_ = 0;
  std::vector<std::uint8_t> build_id_;
  std::string debug_link_;
  std::uint32_t debug_link_sum_ = 0;
  Part symbols_, strings_;
};

}  // namespace shunt::core
