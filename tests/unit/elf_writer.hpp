// elf_writer.hpp: writes small ELF64 shared libraries for tests, as a linker would. What a test wants to be wrong it changes
// afterwards: every field can be reached through Elf::at(), Elf::dynamic() and Elf::headers().
//
// In the file as in memory a byte's offset is its address, so one array of bytes serves as both. Three segments: tables
// (readable), code (executable), data (writable: first what RELRO covers, then .got.plt).
#pragma once

#include <elf.h>

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace unit {

struct Symbol {
  std::string name;
  bool is_defined = false;
  std::string version = {};  // "": none; of a definition one of `defines`, of an import one of `needs`
  bool is_hidden = false;    // of a definition: not the default version (name@V, not name@@V)
  unsigned char binding = STB_GLOBAL, type = STT_FUNC, visibility = STV_DEFAULT;
};

enum class In { rela, jmprel, rel };

/// A relocation: the word at data address `slots + 8 * position` is for the symbol.
struct Reloc {
  std::size_t symbol;  // its place in ElfSpec::symbols
  In table = In::jmprel;
  unsigned type = 7;  // R_X86_64_JUMP_SLOT
  std::int64_t addend = 0;
};

struct ElfSpec {
  std::vector<Symbol> symbols = {};
  std::vector<Reloc> relocs = {};
  std::vector<std::string> defines = {};  // versions; the base version (the soname's) comes before them by itself
  std::vector<std::string> needs = {};    // versions, all of libneeded.so
  bool gnu_hash = true, sysv_hash = false, dynamic = true, relr = false;
  bool plt_is_rel = false;    // DT_PLTREL says DT_REL
  bool rela_has_plt = false;  // DT_RELASZ includes what DT_JMPREL has
  std::string build_id = "\x01\x02\x03\x04\x05\x06\x07\x08";
  std::uint32_t note_align = 4;
};

class Elf {
 public:
  std::vector<std::uint8_t> bytes;
  std::vector<std::uint32_t> symbol_index;  // of each symbol of the spec, in .dynsym
  std::uint64_t code = 0, slots = 0;        // addresses of the first function (each has 16 bytes) and of the first slot

  template <class T>
  T &at(std::uint64_t offset, std::size_t k = 0) {
    if (offset + (k + 1) * sizeof(T) > bytes.size()) throw std::out_of_range("a test looks behind its own image");
    return *reinterpret_cast<T *>(bytes.data() + offset + k * sizeof(T));
  }
  Elf64_Ehdr &header() { return at<Elf64_Ehdr>(0); }
  std::span<Elf64_Phdr> headers() { return {&at<Elf64_Phdr>(header().e_phoff), header().e_phnum}; }
  Elf64_Phdr &segment(std::uint32_t type, unsigned k = 0) {
    for (Elf64_Phdr &one : headers())
      if (one.p_type == type && k-- == 0) return one;
    throw std::out_of_range("no such segment");
  }
  std::span<Elf64_Dyn> all_dynamic() {
    const Elf64_Phdr &segment_of_it = segment(PT_DYNAMIC);
    return {&at<Elf64_Dyn>(segment_of_it.p_vaddr), segment_of_it.p_memsz / sizeof(Elf64_Dyn)};
  }
  /// The value of a dynamic tag, to read or to change.
  std::uint64_t *find_dynamic(std::int64_t tag) {
    for (Elf64_Dyn &entry : all_dynamic())
      if (entry.d_tag == tag) return &entry.d_un.d_val;
    return nullptr;
  }
  std::uint64_t &dynamic(std::int64_t tag) {
    if (std::uint64_t *value = find_dynamic(tag)) return *value;
    throw std::out_of_range("no such dynamic tag");
  }
  std::size_t plt_entry_size() { return dynamic(DT_PLTREL) == DT_REL ? sizeof(Elf64_Rel) : sizeof(Elf64_Rela); }
  void remove_dynamic(std::int64_t tag) {
    for (Elf64_Dyn &entry : all_dynamic())
      if (entry.d_tag == tag) entry.d_tag = DT_DEBUG;  // means nothing here
  }
  Elf64_Sym &symbol(std::size_t of_spec) { return at<Elf64_Sym>(dynamic(DT_SYMTAB), symbol_index[of_spec]); }
};

class ElfWriter {
 public:
  static Elf write(const ElfSpec &spec);
};

}  // namespace unit
