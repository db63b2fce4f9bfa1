#include "elf/file.hpp"

#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <optional>

#include "base/fd.hpp"

namespace shunt::core {
namespace {

constexpr std::size_t kMaximumSymbols = std::size_t{1} << 24;

struct ElfEnd {
  void operator()(Elf *elf) const { elf_end(elf); }
};

Error malformed(const std::string &path, const char *why) {
  Error error = make_error(Code::patch_malformed, "%s cannot be read as an ELF file: %s", path.c_str(), why);
  error.object = path;
  return error;
}

Error unreadable(const std::string &path, int number) {
  return file_error(Code::patch_unreadable, path, "cannot be opened", number);
}

/// What a version number of the file's own version table means.
struct Version {
  std::string name, library;
};

class Reader {
 public:
  Reader(Elf *elf, ElfFile &file) : elf_(elf), file_(file) {}

  /// NULL, or why it cannot be read.
  const char *read() {
    if (elf_kind(elf_) != ELF_K_ELF || gelf_getehdr(elf_, &header_) == nullptr) return "it is not an ELF file";
    if (header_.e_type == ET_REL) return "it is not linked yet (an object file)";
    if (header_.e_type != ET_DYN && header_.e_type != ET_EXEC) return "it is neither a program nor a shared library";
    if (const char *why = read_segments()) return why;
    if (dynamic_.empty()) return "it is linked statically: it imports nothing, and nothing can be redirected in it";
    if (!read_strings()) return "its strings lie outside the file";
    read_versions();
    if (const char *why = read_relocations()) return why;
    if (const char *why = read_symbols()) return why;
    read_sections();
    return nullptr;
  }

  [[nodiscard]] const GElf_Ehdr &header() const { return header_; }

 private:
  const char *read_segments() {
    std::size_t count = 0;
    if (elf_getphdrnum(elf_, &count) != 0) return "its program headers lie outside the file";
    for (std::size_t k = 0; k < count; ++k) {
      GElf_Phdr segment;
      if (gelf_getphdr(elf_, static_cast<int>(k), &segment) == nullptr)
        return "its program headers lie outside the file";
      if (segment.p_type == PT_LOAD) loads_.push_back(segment);
      if (segment.p_type == PT_NOTE) read_notes(segment);
      if (segment.p_type == PT_DYNAMIC && !read_dynamic(segment)) return "its dynamic segment lies outside the file";
    }
    return nullptr;
  }

  bool read_dynamic(const GElf_Phdr &segment) {
    Elf_Data *data = chunk_at(segment.p_offset, segment.p_filesz, ELF_T_DYN);
    if (data == nullptr) return false;
    GElf_Dyn entry;
    for (int k = 0; gelf_getdyn(data, k, &entry) != nullptr && entry.d_tag != DT_NULL; ++k)
      dynamic_.emplace_back(entry.d_tag, entry.d_un.d_val);
    return true;
  }

  void read_notes(const GElf_Phdr &segment) {
    Elf_Data *data = chunk_at(segment.p_offset, segment.p_filesz, segment.p_align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR);
    if (data == nullptr) return;
    GElf_Nhdr note;
    std::size_t name = 0, content = 0;
    for (std::size_t offset = 0; (offset = gelf_getnote(data, offset, &note, &name, &content)) > 0;) {
      const auto *bytes = static_cast<const unsigned char *>(data->d_buf);
      if (note.n_type != NT_GNU_BUILD_ID || note.n_namesz != 4 || std::memcmp(bytes + name, "GNU", 4) != 0) continue;
      for (std::size_t k = 0; k < note.n_descsz; ++k) {
        constexpr char kDigits[] = "0123456789abcdef";
        file_.build_id += {kDigits[bytes[content + k] >> 4], kDigits[bytes[content + k] & 15]};
      }
    }
  }

  // ---- addresses and strings

  [[nodiscard]] std::optional<std::uint64_t> dynamic(std::int64_t tag) const {
    for (const auto &[one, value] : dynamic_)
      if (one == tag) return value;
    return std::nullopt;
  }

  Elf_Data *chunk_at(std::uint64_t offset, std::uint64_t size, Elf_Type type) {
    if (size == 0 || size > INT64_MAX || offset > INT64_MAX) return nullptr;
    return elf_getdata_rawchunk(elf_, static_cast<std::int64_t>(offset), size, type);
  }

  /// The file's bytes at an address, as the program headers map them; without a size, all up to the end of the segment.
  Elf_Data *chunk(std::uint64_t address, std::optional<std::uint64_t> size, Elf_Type type) {
    for (const GElf_Phdr &segment : loads_) {
      if (address < segment.p_vaddr || address - segment.p_vaddr >= segment.p_filesz) continue;
      const std::uint64_t inside = address - segment.p_vaddr, left = segment.p_filesz - inside;
      if (size.value_or(0) > left || inside > UINT64_MAX - segment.p_offset) return nullptr;
      std::uint64_t all = size.value_or(left);
      all -= all % gelf_fsize(elf_, type, 1, EV_CURRENT);
      return chunk_at(segment.p_offset + inside, all, type);
    }
    return nullptr;
  }

  bool read_strings() {
    const auto address = dynamic(DT_STRTAB), size = dynamic(DT_STRSZ);
    if (!address || !size || (strings_ = chunk(*address, *size, ELF_T_BYTE)) == nullptr) return false;
    for (const auto &[tag, value] : dynamic_) {
      if (tag == DT_NEEDED) file_.needed.push_back(string(value));
      if (tag == DT_SONAME) file_.soname = string(value);
      if (tag == DT_RUNPATH || (tag == DT_RPATH && file_.run_path.empty())) file_.run_path = string(value);
    }
    return true;
  }

  [[nodiscard]] std::string string(std::uint64_t offset) const {
    if (offset >= strings_->d_size) return {};
    const char *begin = static_cast<const char *>(strings_->d_buf) + offset;
    return {begin, strnlen(begin, strings_->d_size - offset)};
  }

  // ---- versions

  void read_versions() {
    if (const auto address = dynamic(DT_VERSYM)) version_numbers_ = chunk(*address, std::nullopt, ELF_T_HALF);
    if (const auto address = dynamic(DT_VERNEED)) read_needed_versions(chunk(*address, std::nullopt, ELF_T_VNEED));
    if (const auto address = dynamic(DT_VERDEF)) read_defined_versions(chunk(*address, std::nullopt, ELF_T_VDEF));
  }

  // Version tables are chains; every step must lead forward, so that none of them is a loop.
  void read_needed_versions(Elf_Data *data) {
    GElf_Verneed need;
    GElf_Vernaux one;
    for (int at = 0; data != nullptr && gelf_getverneed(data, at, &need) != nullptr;) {
      const std::string library = string(need.vn_file);
      for (int inner = at + static_cast<int>(need.vn_aux); inner >= at && gelf_getvernaux(data, inner, &one) != nullptr;
           inner += static_cast<int>(one.vna_next)) {
        versions_[one.vna_other & 0x7fff] = {string(one.vna_name), library};
        if (static_cast<std::int32_t>(one.vna_next) <= 0) break;
      }
      if (static_cast<std::int32_t>(need.vn_next) <= 0) break;
      at += static_cast<int>(need.vn_next);
    }
  }

  void read_defined_versions(Elf_Data *data) {
    GElf_Verdef definition;
    GElf_Verdaux name;
    for (int at = 0; data != nullptr && gelf_getverdef(data, at, &definition) != nullptr;) {
      const int aux = at + static_cast<int>(definition.vd_aux);
      const bool is_base = (definition.vd_flags & VER_FLG_BASE) != 0;  // the file's own name, not a version
      if (!is_base && aux > at && gelf_getverdaux(data, aux, &name) != nullptr)
        versions_[definition.vd_ndx & 0x7fff] = {string(name.vda_name), {}};
      if (static_cast<std::int32_t>(definition.vd_next) <= 0) break;
      at += static_cast<int>(definition.vd_next);
    }
  }

  /// 0 or 1 (no version) where the file has no table or it ends before.
  [[nodiscard]] std::uint16_t version_number(std::uint32_t symbol) const {
    GElf_Versym number = 0;
    if (version_numbers_ != nullptr) gelf_getversym(version_numbers_, static_cast<int>(symbol), &number);
    return number;
  }

  [[nodiscard]] const Version &version_of(std::uint32_t symbol) const {
    static const Version kNone;
    const auto known = versions_.find(version_number(symbol) & 0x7fff);
    return known != versions_.end() ? known->second : kNone;
  }

  // ---- relocations: which symbols have slots

  const char *read_relocations() {
    const bool plt_has_addends = dynamic(DT_PLTREL).value_or(DT_RELA) == DT_RELA;
    const bool is_good = read_table(DT_RELA, DT_RELASZ, true) && read_table(DT_REL, DT_RELSZ, false) &&
                         read_table(DT_JMPREL, DT_PLTRELSZ, plt_has_addends);
    return is_good ? nullptr : "a table of relocations lies outside the file";
  }

  bool read_table(std::int64_t address_tag, std::int64_t size_tag, bool has_addends) {
    const auto address = dynamic(address_tag);
    const std::uint64_t size = dynamic(size_tag).value_or(0);
    if (!address || size == 0) return true;
    Elf_Data *data = chunk(*address, size, has_addends ? ELF_T_RELA : ELF_T_REL);
    if (data == nullptr) return false;
    for (int k = 0;; ++k) {
      GElf_Rela with;
      GElf_Rel without;
      if (has_addends ? gelf_getrela(data, k, &with) == nullptr : gelf_getrel(data, k, &without) == nullptr)
        return true;
      count_slot(has_addends ? with.r_offset : without.r_offset, has_addends ? with.r_info : without.r_info);
    }
  }

  // Some linkers count the table of jump slots as a part of the other one too: a slot's address tells them apart.
  void count_slot(std::uint64_t address, std::uint64_t info) {
    const auto symbol = static_cast<std::uint32_t>(GELF_R_SYM(info));
    const arch::RelocKind kind = file_.machine->kind(static_cast<std::uint32_t>(GELF_R_TYPE(info)));
    if (symbol != 0 && kind != arch::RelocKind::other) slots_[symbol].try_emplace(address, kind);
  }

  // ---- symbols

  /// How many symbols there are: no table says it outright. Imports come first and in no chain of a hash table.
  std::size_t symbol_count() {
    std::size_t count = slots_.empty() ? 0 : std::size_t{slots_.rbegin()->first} + 1;
    if (const auto address = dynamic(DT_GNU_HASH)) count = std::max(count, count_by_gnu_hash(*address));
    if (const auto address = dynamic(DT_HASH)) count = std::max(count, count_by_hash(*address));
    Elf_Scn *section = nullptr;
    GElf_Shdr header;
    while ((section = elf_nextscn(elf_, section)) != nullptr)
      if (gelf_getshdr(section, &header) != nullptr && header.sh_type == SHT_DYNSYM && header.sh_entsize > 0 &&
          header.sh_addr == dynamic(DT_SYMTAB))
        count = std::max<std::size_t>(count, header.sh_size / header.sh_entsize);
    return std::min(count, kMaximumSymbols);
  }

  std::size_t count_by_hash(std::uint64_t address) {
    // 64-bit s390 is the one machine here whose DT_HASH has words of 64 bits.
    const bool is_wide = header_.e_machine == EM_S390 && file_.machine->is_64_bit;
    Elf_Data *data = chunk(address, is_wide ? 16 : 8, is_wide ? ELF_T_XWORD : ELF_T_WORD);
    if (data == nullptr) return 0;
    return is_wide ? static_cast<std::uint64_t *>(data->d_buf)[1] : static_cast<std::uint32_t *>(data->d_buf)[1];
  }

  /// The chain of the highest bucket ends with the last symbol.
  std::size_t count_by_gnu_hash(std::uint64_t address) {
    Elf_Data *head = chunk(address, 16, ELF_T_WORD);
    if (head == nullptr) return 0;
    const auto *words = static_cast<const std::uint32_t *>(head->d_buf);
    const std::uint32_t buckets = words[0], first = words[1], bloom = words[2];
    const std::uint64_t table = address + 16 + std::uint64_t{bloom} * (file_.machine->is_64_bit ? 8 : 4);
    Elf_Data *data = chunk(table, std::uint64_t{buckets} * 4, ELF_T_WORD);
    if (data == nullptr) return first;
    const auto *bucket = static_cast<const std::uint32_t *>(data->d_buf);
    std::uint32_t last = *std::max_element(bucket, bucket + buckets);
    if (last < first) return first;
    Elf_Data *chains = chunk(table + std::uint64_t{buckets} * 4, std::nullopt, ELF_T_WORD);
    if (chains == nullptr) return first;
    const auto *chain = static_cast<const std::uint32_t *>(chains->d_buf);
    const std::size_t size = chains->d_size / 4;
    while (last - first < size && (chain[last - first] & 1) == 0) ++last;
    return std::size_t{last} + 1;
  }

  const char *read_symbols() {
    const auto address = dynamic(DT_SYMTAB);
    const std::size_t count = symbol_count(), size = gelf_fsize(elf_, ELF_T_SYM, 1, EV_CURRENT);
    if (count <= 1) return nullptr;
    Elf_Data *data = address ? chunk(*address, count * size, ELF_T_SYM) : nullptr;
    if (data == nullptr) return "its symbols lie outside the file";
    GElf_Sym symbol;
    for (std::uint32_t k = 1; gelf_getsym(data, static_cast<int>(k), &symbol) != nullptr; ++k) add_symbol(k, symbol);
    return nullptr;
  }

  void add_symbol(std::uint32_t number, const GElf_Sym &symbol) {
    const unsigned binding = GELF_ST_BIND(symbol.st_info), type = GELF_ST_TYPE(symbol.st_info);
    const unsigned visibility = GELF_ST_VISIBILITY(symbol.st_other);
    std::string name = string(symbol.st_name);
    if (name.empty() || binding == STB_LOCAL || type == STT_SECTION || type == STT_FILE) return;
    const bool is_defined = symbol.st_shndx != SHN_UNDEF;
    const bool is_weak = binding == STB_WEAK;
    const Version &version = version_of(number);
    const auto slots = slots_.find(number);
    if (!is_defined || slots != slots_.end()) {
      FileImport import{name,      version.name, version.library, is_weak, type == STT_OBJECT || type == STT_TLS,
                        is_defined};
      if (slots != slots_.end())
        for (const auto &[address, kind] : slots->second) ++count_of(import, kind);
      file_.imports.push_back(std::move(import));
    }
    if (is_defined && visibility != STV_HIDDEN && visibility != STV_INTERNAL) {
      const bool is_function = type == STT_FUNC || type == STT_GNU_IFUNC;
      const bool is_default = (version_number(number) & 0x8000) == 0;
      file_.exports.push_back({std::move(name), version.name, is_default, is_weak, is_function});
    }
  }

  static std::uint32_t &count_of(FileImport &import, arch::RelocKind kind) {
    if (kind == arch::RelocKind::jump_slot) return import.jump_slots;
    return kind == arch::RelocKind::glob_dat ? import.glob_dats : import.absolutes;
  }

  // ---- what only section headers lead to

  void read_sections() {
    std::size_t names = 0;
    const bool has_names = elf_getshdrstrndx(elf_, &names) == 0;
    Elf_Scn *section = nullptr;
    GElf_Shdr header;
    while ((section = elf_nextscn(elf_, section)) != nullptr) {
      if (gelf_getshdr(section, &header) == nullptr) continue;
      if (header.sh_type == SHT_SYMTAB) read_inner_functions(section, header);
      const char *name = has_names ? elf_strptr(elf_, names, header.sh_name) : nullptr;
      if (name == nullptr || std::strcmp(name, ".gnu_debuglink") != 0) continue;
      const Elf_Data *data = elf_rawdata(section, nullptr);
      if (data != nullptr && data->d_buf != nullptr)
        file_.debug_link.assign(static_cast<const char *>(data->d_buf),
                                strnlen(static_cast<const char *>(data->d_buf), data->d_size));
    }
    std::sort(file_.inner_functions.begin(), file_.inner_functions.end());
  }

  void read_inner_functions(Elf_Scn *section, const GElf_Shdr &header) {
    Elf_Data *data = elf_getdata(section, nullptr);
    GElf_Sym symbol;
    for (int k = 1; data != nullptr && gelf_getsym(data, k, &symbol) != nullptr; ++k) {
      if (symbol.st_shndx == SHN_UNDEF || GELF_ST_TYPE(symbol.st_info) != STT_FUNC) continue;
      const unsigned visibility = GELF_ST_VISIBILITY(symbol.st_other);
      const bool is_inner = GELF_ST_BIND(symbol.st_info) == STB_LOCAL || visibility == STV_HIDDEN ||
                            visibility == STV_INTERNAL || header_.e_type == ET_EXEC || is_program();
      const char *name = is_inner ? elf_strptr(elf_, header.sh_link, symbol.st_name) : nullptr;
      if (name != nullptr && *name != '\0') file_.inner_functions.emplace_back(name);
    }
  }

  /// A program exports little, so that its global functions are inner ones as well.
  [[nodiscard]] bool is_program() const { return (dynamic(DT_FLAGS_1).value_or(0) & DF_1_PIE) != 0; }

  Elf *elf_;
  ElfFile &file_;
  GElf_Ehdr header_ = {};
  std::vector<GElf_Phdr> loads_;
  std::vector<std::pair<std::int64_t, std::uint64_t>> dynamic_;
  Elf_Data *strings_ = nullptr, *version_numbers_ = nullptr;
  std::map<unsigned, Version> versions_;
  std::map<std::uint32_t, std::map<std::uint64_t, arch::RelocKind>> slots_;  // by symbol, by address
};

/// The machine of the file; an error for one that is not known.
Result<const arch::Machine *> machine_of(Elf *elf, const std::string &path) {
  GElf_Ehdr header;
  if (elf_kind(elf) != ELF_K_ELF || gelf_getehdr(elf, &header) == nullptr)
    return malformed(path, "it is not an ELF file");
  const bool is_64_bit = header.e_ident[EI_CLASS] == ELFCLASS64, is_big = header.e_ident[EI_DATA] == ELFDATA2MSB;
  if (const arch::Machine *machine = arch::find_machine(header.e_machine, is_64_bit, is_big)) return machine;
  Error error = make_error(Code::patch_architecture,
                           "%s is for a machine that shunt does not know (ELF%s, %s endian, machine %d)", path.c_str(),
                           is_64_bit ? "64" : "32", is_big ? "big" : "little", header.e_machine);
  error.object = path;
  return error;
}

}  // namespace

Result<ElfFile> ElfFile::read(int fd, const std::string &path) {
  struct stat status {};
  if (fstat(fd, &status) != 0) return unreadable(path, errno);
  if (!S_ISREG(status.st_mode)) return malformed(path, "it is not a regular file");
  elf_version(EV_CURRENT);
  const std::unique_ptr<Elf, ElfEnd> elf(elf_begin(fd, ELF_C_READ, nullptr));
  if (elf == nullptr) return malformed(path, elf_errmsg(-1));
  const Result<const arch::Machine *> machine = machine_of(elf.get(), path);
  if (!machine) return machine.error();
  ElfFile file;
  file.path = path;
  file.machine = *machine;
  if (const char *why = Reader(elf.get(), file).read()) return malformed(path, why);
  return file;
}

Result<ElfFile> ElfFile::open(const std::string &path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.is_open()) return unreadable(path, errno);
  return read(fd.get(), path);
}

const FileExport *ElfFile::find_export(const std::string &name) const {
  const auto found =
      std::find_if(exports.begin(), exports.end(), [&](const FileExport &one) { return one.name == name; });
  return found != exports.end() ? &*found : nullptr;
}

bool ElfFile::has_inner_function(const std::string &name) const {
  return std::binary_search(inner_functions.begin(), inner_functions.end(), name);
}

}  // namespace shunt::core
