#include "elf_writer.hpp"

#include <map>
#include <utility>

#include "arch/native.hpp"

namespace unit {
namespace {

std::uint32_t gnu_hash_of(const std::string &name) {
  std::uint32_t hash = 5381;
  for (const unsigned char c : name) hash = hash * 33 + c;
  return hash;
}

std::uint32_t sysv_hash_of(const std::string &name) {
  std::uint32_t hash = 0;
  for (const unsigned char c : name) {
    hash = (hash << 4) + c;
    const std::uint32_t high = hash & 0xf0000000U;
    hash = (hash ^ (high >> 24)) & ~high;
  }
  return hash;
}

class Writer {
 public:
  explicit Writer(const ElfSpec &spec) : spec_(spec) {
    for (const std::string &name : {std::string(), soname_, needed_}) add_string(name);
    order_symbols();
    reserve<Elf64_Ehdr>(1);
    const std::uint64_t headers = reserve<Elf64_Phdr>(kSegments);
    const std::uint64_t notes = offset();
    write_notes();
    const std::uint64_t notes_end = offset();
    if (spec.gnu_hash) write_gnu_hash();
    if (spec.sysv_hash) write_sysv_hash();
    const std::uint64_t symbols = write_symbols();
    write_versions();
    const std::uint64_t relocations = offset();
    reserve<Elf64_Rela>(spec.relocs.size() +
                        1);  // enough for every kind of table; written when the slots' place is known
    tag(DT_STRTAB, offset());
    tag(DT_STRSZ, strings_.size());
    append(strings_.data(), strings_.size());
    align(16);
    const std::uint64_t tables_end = elf_.code = offset();

    elf_.bytes.resize(elf_.code + 16 * (spec.symbols.size() + 1), 0xcc);
    const std::uint64_t data = elf_.slots = offset();
    reserve<std::uint64_t>(spec.relocs.size() + 1);
    write_relocations(relocations);
    place_symbols(symbols);
    tag(DT_SONAME, add_string(soname_));
    tag(DT_NEEDED, add_string(needed_));
    tag(DT_SYMENT, sizeof(Elf64_Sym));
    align(16);
    const std::uint64_t dynamic = offset();
    if (spec.dynamic) {
      tag(DT_NULL, 0);
      append(dynamic_.data(), dynamic_.size() * sizeof(Elf64_Dyn));
    }
    const std::uint64_t end = offset();

    elf_.header() = {{ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                     ET_DYN,
                     shunt::core::arch::Native::kMachine,
                     EV_CURRENT,
                     0,
                     headers,
                     0,
                     0,
                     sizeof(Elf64_Ehdr),
                     sizeof(Elf64_Phdr),
                     kSegments,
                     sizeof(Elf64_Shdr),
                     0,
                     0};
    const auto segment = [&](unsigned k, std::uint32_t type, std::uint32_t flags, std::uint64_t begin,
                             std::uint64_t stop, std::uint64_t alignment) {
      elf_.at<Elf64_Phdr>(headers, k) = {type, flags, begin, begin, begin, stop - begin, stop - begin, alignment};
    };
    segment(0, PT_LOAD, PF_R, 0, tables_end, 16);
    segment(1, PT_LOAD, PF_R | PF_X, elf_.code, data, 16);
    segment(2, PT_LOAD, PF_R | PF_W, data, end, 16);
    segment(3, spec.dynamic ? PT_DYNAMIC : PT_NULL, PF_R | PF_W, dynamic, end, 8);
    segment(4, PT_NOTE, PF_R, notes, notes_end, spec.note_align);
    segment(5, PT_GNU_RELRO, PF_R, data, dynamic, 1);
  }

  Elf take() { return std::move(elf_); }

 private:
  static constexpr unsigned kSegments = 6;
  static constexpr std::uint32_t kBuckets = 3;  // few, so that names share them

  // The GNU hash table wants undefined symbols first, and the others by bucket. Index 0 is the null symbol.
  void order_symbols() {
    elf_.symbol_index.resize(spec_.symbols.size());
    for (std::uint32_t group = 0; group <= kBuckets; ++group)
      for (std::size_t k = 0; k < spec_.symbols.size(); ++k) {
        const Symbol &symbol = spec_.symbols[k];
        if (group != (symbol.is_defined ? 1 + gnu_hash_of(symbol.name) % kBuckets : 0)) continue;
        elf_.symbol_index[k] = static_cast<std::uint32_t>(order_.size()) + 1;
        order_.push_back(k);
        if (group == 0) ++undefined_;
      }
    for (const Symbol &symbol : spec_.symbols) add_string(symbol.name);
    for (const auto *versions : {&spec_.defines, &spec_.needs})
      for (const std::string &version : *versions) add_string(version);
  }

  void write_notes() {
    const auto note = [&](std::uint32_t type, const std::string &text) {
      append_value(Elf64_Nhdr{4, static_cast<std::uint32_t>(text.size()), type});
      append("GNU", 4);
      align(spec_.note_align);
      append(text.data(), text.size());
      align(spec_.note_align);
    };
    align(spec_.note_align);
    note(NT_GNU_PROPERTY_TYPE_0, std::string(12, '\0'));
    if (!spec_.build_id.empty()) note(NT_GNU_BUILD_ID, spec_.build_id);
  }

  void write_gnu_hash() {
    align(8);
    tag(DT_GNU_HASH, offset());
    constexpr std::uint32_t kWords = 2, kShift = 6;
    const std::uint32_t first = undefined_ + 1;
    std::uint64_t bloom[kWords] = {};
    std::uint32_t buckets[kBuckets] = {};
    std::vector<std::uint32_t> chains;
    for (std::uint32_t k = undefined_; k < order_.size(); ++k) {
      const std::uint32_t hash = gnu_hash_of(spec_.symbols[order_[k]].name);
      bloom[hash / 64 % kWords] |= std::uint64_t{1} << (hash % 64) | std::uint64_t{1} << ((hash >> kShift) % 64);
      std::uint32_t &bucket = buckets[hash % kBuckets];
      if (bucket == 0) bucket = k + 1;
      const bool is_last =
          k + 1 == order_.size() || gnu_hash_of(spec_.symbols[order_[k + 1]].name) % kBuckets != hash % kBuckets;
      chains.push_back((hash & ~1U) | (is_last ? 1 : 0));
    }
    for (const std::uint32_t value : {kBuckets, first, kWords, kShift}) append_value(value);
    append(bloom, sizeof bloom);
    append(buckets, sizeof buckets);
    append(chains.data(), chains.size() * sizeof(std::uint32_t));
  }

  void write_sysv_hash() {
    align(8);
    tag(DT_HASH, offset());
    const auto count = static_cast<std::uint32_t>(order_.size()) + 1;
    std::vector<std::uint32_t> buckets(kBuckets), chains(count);
    for (std::uint32_t k = count - 1; k > 0; --k) {
      std::uint32_t &bucket = buckets[sysv_hash_of(spec_.symbols[order_[k - 1]].name) % kBuckets];
      chains[k] = bucket;
      bucket = k;
    }
    append_value(kBuckets);
    append_value(count);
    append(buckets.data(), buckets.size() * sizeof(std::uint32_t));
    append(chains.data(), chains.size() * sizeof(std::uint32_t));
  }

  std::uint64_t write_symbols() {
    align(8);
    const std::uint64_t table = offset();
    tag(DT_SYMTAB, table);
    append_value(Elf64_Sym{});
    for (const std::size_t k : order_) {
      const Symbol &symbol = spec_.symbols[k];
      append_value(Elf64_Sym{add_string(symbol.name),
                             static_cast<unsigned char>(ELF64_ST_INFO(symbol.binding, symbol.type)), symbol.visibility,
                             static_cast<Elf64_Half>(symbol.is_defined ? 1 : SHN_UNDEF), 0, 16});
    }
    return table;
  }

  void place_symbols(std::uint64_t table) {
    for (std::size_t k = 0; k < spec_.symbols.size(); ++k)
      if (spec_.symbols[k].is_defined) elf_.at<Elf64_Sym>(table, elf_.symbol_index[k]).st_value = elf_.code + 16 * k;
  }

  // Version numbers: 1 the base, 2… what is defined, then what is needed.
  void write_versions() {
    if (spec_.defines.empty() && spec_.needs.empty()) return;
    std::map<std::string, Elf64_Half> defined, needed;
    Elf64_Half next = 2;
    for (const std::string &version : spec_.defines) defined[version] = next++;
    for (const std::string &version : spec_.needs) needed[version] = next++;
    tag(DT_VERSYM, offset());
    append_value(Elf64_Half{VER_NDX_LOCAL});
    for (const std::size_t k : order_) {
      const Symbol &symbol = spec_.symbols[k];
      const auto &versions = symbol.is_defined ? defined : needed;
      const unsigned number = symbol.version.empty() ? unsigned{VER_NDX_GLOBAL} : versions.at(symbol.version);
      append_value(static_cast<Elf64_Half>(number | (symbol.is_hidden ? 0x8000U : 0)));
    }
    if (!spec_.defines.empty()) {
      align(8);
      tag(DT_VERDEF, offset());
      tag(DT_VERDEFNUM, spec_.defines.size() + 1);
      constexpr std::uint32_t kSize = sizeof(Elf64_Verdef) + sizeof(Elf64_Verdaux);
      const auto define = [&](const std::string &name, Elf64_Half number, bool is_last) {
        append_value(Elf64_Verdef{VER_DEF_CURRENT, static_cast<Elf64_Half>(number == 1 ? VER_FLG_BASE : 0), number, 1,
                                  sysv_hash_of(name), sizeof(Elf64_Verdef), is_last ? 0 : kSize});
        append_value(Elf64_Verdaux{add_string(name), 0});
      };
      define(soname_, 1, false);
      for (const std::string &version : spec_.defines)
        define(version, defined[version], version == spec_.defines.back());
    }
    if (!spec_.needs.empty()) {
      align(8);
      tag(DT_VERNEED, offset());
      tag(DT_VERNEEDNUM, 1);
      append_value(Elf64_Verneed{VER_NEED_CURRENT, static_cast<Elf64_Half>(spec_.needs.size()), add_string(needed_),
                                 sizeof(Elf64_Verneed), 0});
      for (const std::string &version : spec_.needs)
        append_value(
            Elf64_Vernaux{sysv_hash_of(version), 0, needed[version], add_string(version),
                          version == spec_.needs.back() ? 0U : static_cast<std::uint32_t>(sizeof(Elf64_Vernaux))});
    }
    align(8);
  }

  void write_relocations(std::uint64_t place) {
    std::uint64_t rela_size = 0;
    for (const In table : {In::rela, In::jmprel, In::rel}) {
      const bool with_addend = table == In::rela || (table == In::jmprel && !spec_.plt_is_rel);
      const std::uint64_t begin = place;
      for (std::size_t k = 0; k < spec_.relocs.size(); ++k) {
        const Reloc &reloc = spec_.relocs[k];
        if (reloc.table != table) continue;
        const std::uint64_t info = ELF64_R_INFO(std::uint64_t{elf_.symbol_index[reloc.symbol]}, reloc.type);
        const std::uint64_t slot = elf_.slots + 8 * k;
        if (with_addend) {
          elf_.at<Elf64_Rela>(place) = {slot, info, reloc.addend};
        } else {
          elf_.at<Elf64_Rel>(place) = {slot, info};
        }
        place += with_addend ? sizeof(Elf64_Rela) : sizeof(Elf64_Rel);
      }
      const std::uint64_t size = place - begin;
      if (table == In::rela) {
        rela_size = size;
        tag(DT_RELA, begin);
      } else if (table == In::jmprel) {
        tag(DT_RELASZ, spec_.rela_has_plt ? rela_size + size : rela_size);
        tag(DT_RELAENT, sizeof(Elf64_Rela));
        if (size == 0) continue;
        tag(DT_JMPREL, begin);
        tag(DT_PLTRELSZ, size);
        tag(DT_PLTREL, spec_.plt_is_rel ? DT_REL : DT_RELA);
      } else if (size > 0) {
        tag(DT_REL, begin);
        tag(DT_RELSZ, size);
        tag(DT_RELENT, sizeof(Elf64_Rel));
      }
    }
    if (!spec_.relr) return;
    elf_.at<std::uint64_t>(place) = elf_.slots + 8 * spec_.relocs.size();
    tag(36, place);  // DT_RELR
    tag(35, 8);      // DT_RELRSZ
    tag(37, 8);      // DT_RELRENT
  }

  void tag(std::int64_t tag, std::uint64_t value) { dynamic_.push_back({tag, {value}}); }
  std::uint32_t add_string(const std::string &text) {
    const auto [known, is_new] = string_offsets_.try_emplace(text, static_cast<std::uint32_t>(strings_.size()));
    if (is_new) strings_.append(text.c_str(), text.size() + 1);
    return known->second;
  }
  std::uint64_t offset() const { return elf_.bytes.size(); }
  void align(std::uint64_t to) { elf_.bytes.resize((offset() + to - 1) / to * to); }
  void append(const void *from, std::size_t size) {
    const auto *bytes = static_cast<const std::uint8_t *>(from);
    elf_.bytes.insert(elf_.bytes.end(), bytes, bytes + size);
  }
  template <class T>
  void append_value(const T &value) {
    append(&value, sizeof value);
  }
  template <class T>
  std::uint64_t reserve(std::size_t count) {
    align(8);
    const std::uint64_t begin = offset();
    elf_.bytes.resize(begin + count * sizeof(T));
    return begin;
  }

  const std::string soname_ = "libwritten.so", needed_ = "libneeded.so";
  ElfSpec spec_;
  Elf elf_;
  std::vector<std::size_t> order_;
  std::uint32_t undefined_ = 0;
  std::string strings_;
  std::map<std::string, std::uint32_t> string_offsets_;
  std::vector<Elf64_Dyn> dynamic_;
};

}  // namespace

Elf ElfWriter::write(const ElfSpec &spec) { return Writer(spec).take(); }

}  // namespace unit
