#include "foreign_elf.hpp"

#include <elf.h>

#include <map>

namespace unit {
namespace {

using shunt::core::arch::Machine;

class Writer {
 public:
  explicit Writer(const ForeignSpec &spec) : spec_(spec), machine_(spec.machine) {
    bytes_.resize(head_size());
    const std::uint64_t note = offset(), note_end = (write_note(), offset());
    for (const char *name :
         {"taken", "maybe", "given", "table", "libforeign.so", "libgiver.so", "V_1", "OWN_1", "/opt"})
      add_string(name);
    write_hash();
    write_symbols();
    write_versions();
    write_relocations();
    tag(DT_STRTAB, offset());
    tag(DT_STRSZ, strings_.size());
    bytes_.insert(bytes_.end(), strings_.begin(), strings_.end());
    tag(DT_SONAME, at_["libforeign.so"]);
    tag(DT_NEEDED, at_["libgiver.so"]);
    tag(DT_RUNPATH, at_["/opt"]);
    tag(DT_NULL, 0);
    align(8);
    const std::uint64_t dynamic = offset();
    for (const auto &[tag, value] : dynamic_) word(tag), word(value);
    const std::uint64_t end = offset();
    write_head({{PT_LOAD, 0, end}, {PT_DYNAMIC, dynamic, end}, {PT_NOTE, note, note_end}});
  }

  std::vector<std::uint8_t> take() { return std::move(bytes_); }

 private:
  struct Segment {
    std::uint32_t type;
    std::uint64_t begin, end;
  };
  static constexpr std::size_t kSegments = 3;
  static constexpr std::uint64_t kSlots = 0x100000;  // behind the file: nobody reads them

  // ---- bytes

  [[nodiscard]] std::uint64_t offset() const { return bytes_.size(); }
  void align(std::uint64_t to) { bytes_.resize((offset() + to - 1) / to * to); }
  void put(std::uint64_t value, unsigned size) {
    for (unsigned k = 0; k < size; ++k)
      bytes_.push_back(static_cast<std::uint8_t>(value >> (8 * (machine_.is_big_endian ? size - 1 - k : k))));
  }
  void half(std::uint64_t value) { put(value, 2); }
  void word32(std::uint64_t value) { put(value, 4); }
  void word(std::uint64_t value) { put(value, machine_.is_64_bit ? 8 : 4); }
  void tag(std::uint64_t tag, std::uint64_t value) { dynamic_.emplace_back(tag, value); }
  void add_string(const std::string &text) {
    at_[text] = strings_.size();
    strings_ += text + '\0';
  }

  // ---- head

  [[nodiscard]] std::size_t segment_size() const { return machine_.is_64_bit ? 56 : 32; }
  [[nodiscard]] std::size_t head_size() const { return (machine_.is_64_bit ? 64 : 52) + kSegments * segment_size(); }

  void write_head(const std::vector<Segment> &segments) {
    const std::vector<std::uint8_t> body(bytes_.begin() + static_cast<std::ptrdiff_t>(head_size()), bytes_.end());
    bytes_ = {ELFMAG0,
              ELFMAG1,
              ELFMAG2,
              ELFMAG3,
              static_cast<std::uint8_t>(machine_.is_64_bit ? ELFCLASS64 : ELFCLASS32),
              static_cast<std::uint8_t>(machine_.is_big_endian ? ELFDATA2MSB : ELFDATA2LSB),
              EV_CURRENT};
    bytes_.resize(EI_NIDENT);
    half(ET_DYN), half(machine_.number), word32(EV_CURRENT);
    word(0), word(machine_.is_64_bit ? 64 : 52), word(0), word32(0);
    half(machine_.is_64_bit ? 64 : 52), half(segment_size()), half(kSegments), half(0), half(0), half(0);
    for (const Segment &one : segments) {
      const std::uint64_t size = one.end - one.begin;
      word32(one.type);
      if (machine_.is_64_bit) word32(PF_R);
      word(one.begin), word(one.begin), word(one.begin), word(size), word(size);
      if (!machine_.is_64_bit) word32(PF_R);
      word(4);
    }
    bytes_.insert(bytes_.end(), body.begin(), body.end());
  }

  void write_note() {
    word32(4), word32(4), word32(NT_GNU_BUILD_ID);
    for (const std::uint8_t byte : {'G', 'N', 'U', '\0', '\xab', '\xcd', '\x01', '\x02'}) put(byte, 1);
  }

  // ---- symbols: 1 taken, 2 maybe, 3 given, 4 table

  void write_symbols() {
    align(8);
    tag(DT_SYMTAB, offset());
    tag(DT_SYMENT, machine_.is_64_bit ? 24 : 16);
    symbol(0, 0, 0);
    symbol(at_["taken"], ELF32_ST_INFO(STB_GLOBAL, STT_FUNC), SHN_UNDEF);
    symbol(at_["maybe"], ELF32_ST_INFO(STB_WEAK, STT_NOTYPE), SHN_UNDEF);
    symbol(at_["given"], ELF32_ST_INFO(STB_GLOBAL, STT_FUNC), 1);
    symbol(at_["table"], ELF32_ST_INFO(STB_GLOBAL, STT_OBJECT), 1);
  }

  void symbol(std::uint64_t name, unsigned info, unsigned section) {
    word32(name);
    if (machine_.is_64_bit) {
      put(info, 1), put(0, 1), half(section), word(0x10), word(4);
    } else {
      word(0x10), word(4), put(info, 1), put(0, 1), half(section);
    }
  }

  void write_hash() {
    align(8);
    if (spec_.has_gnu_hash) {
      tag(DT_GNU_HASH, offset());
      word32(1), word32(3), word32(1), word32(0);  // one bucket, the first symbol in it, one word of the filter
      word(~std::uint64_t{0});
      word32(3);                       // the bucket
      word32(0x10), word32(0x10 | 1);  // its chain: given, table
    } else {
      tag(DT_HASH, offset());
      const bool is_wide = machine_.number == EM_S390 && machine_.is_64_bit;
      const auto entry = [&](std::uint64_t value) { put(value, is_wide ? 8 : 4); };
      entry(1), entry(5), entry(4);  // one bucket, five symbols
      entry(0), entry(0), entry(1), entry(2), entry(3);
    }
  }

  void write_versions() {
    align(8);
    tag(DT_VERSYM, offset());
    half(0), half(3), half(1), half(2), half(1);
    align(8);
    tag(DT_VERNEED, offset());
    tag(DT_VERNEEDNUM, 1);
    half(1), half(1), word32(at_["libgiver.so"]), word32(16), word32(0);
    word32(0), half(0), half(3), word32(at_["V_1"]), word32(0);
    tag(DT_VERDEF, offset());
    tag(DT_VERDEFNUM, 2);
    define(VER_FLG_BASE, 1, "libforeign.so", false);
    define(0, 2, "OWN_1", true);
    align(8);
  }

  void define(unsigned flags, unsigned number, const char *name, bool is_last) {
    half(1), half(flags), half(number), half(1), word32(0), word32(20), word32(is_last ? 0 : 28);
    word32(at_[name]), word32(0);
  }

  // ---- relocations

  void write_relocations() {
    const std::uint64_t size = (machine_.is_64_bit ? 8 : 4) * (spec_.has_addends ? 3U : 2U);
    tag(spec_.has_addends ? DT_RELA : DT_REL, offset());
    tag(spec_.has_addends ? DT_RELASZ : DT_RELSZ, 2 * size);
    relocation(1, machine_.glob_dat == shunt::core::arch::kNoType ? machine_.absolute : machine_.glob_dat, 2);
    relocation(2, machine_.absolute, 1);
    tag(DT_JMPREL, offset());
    tag(DT_PLTRELSZ, size);
    tag(DT_PLTREL, spec_.has_addends ? DT_RELA : DT_REL);
    relocation(3, machine_.jump_slot, 1);
  }

  void relocation(std::uint64_t slot, std::uint64_t type, std::uint64_t symbol) {
    word(kSlots + 8 * slot);
    word(machine_.is_64_bit ? symbol << 32 | type : symbol << 8 | type);
    if (spec_.has_addends) word(0);
  }

  ForeignSpec spec_;
  Machine machine_;
  std::vector<std::uint8_t> bytes_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> dynamic_;
  std::string strings_ = std::string(1, '\0');
  std::map<std::string, std::uint64_t> at_;
};

}  // namespace

std::vector<std::uint8_t> write_foreign_elf(const ForeignSpec &spec) { return Writer(spec).take(); }

}  // namespace unit
