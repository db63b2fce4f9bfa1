#include "elf/symbol_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

#include "arch/native.hpp"
#include "base/error.hpp"
#include "base/syscalls.hpp"

namespace shunt::core {
namespace {

constexpr unsigned kMaximumSegments = 1024;
constexpr std::uint64_t kMaximumSections = std::uint64_t{1}
                                           << 20;  // -ffunction-sections leaves many in object files only
constexpr std::uint64_t kMaximumNotes = 64 << 10;
constexpr std::size_t kMaximumId = 64;

/// CRC-32 of ISO 3309, one byte at a time.
constexpr std::array<std::uint32_t, 256> make_sums() {
  std::array<std::uint32_t, 256> sums{};
  for (std::uint32_t byte = 0; byte < sums.size(); ++byte) {
    std::uint32_t sum = byte;
    for (int bit = 0; bit < 8; ++bit) sum = (sum & 1) != 0 ? sum >> 1 ^ 0xedb88320U : sum >> 1;
    sums[byte] = sum;
  }
  return sums;
}
constexpr auto kSums = make_sums();

/// As much as there is of `size` bytes at `offset`; negative when the file cannot be read.
long read_some(int fd, void *out, std::size_t size, std::uint64_t offset) {
  for (;;) {
    // Raw: pread() is a function that users redirect.
    const long got = sys::call(SYS_pread64, fd, out, size, static_cast<std::int64_t>(offset));
    if (got >= 0 || errno != EINTR) return got;
  }
}

}  // namespace

bool SymbolFile::open(const char *path, SymbolFile &file, std::string &why) {
  file = SymbolFile();
  file.path_ = path;
  file.fd_ = Fd(static_cast<int>(sys::call(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)));
  struct stat status {};
  if (!file.fd_.is_open() || fstat(file.fd_.get(), &status) != 0) {
    why = errno == ENOENT ? "is not there" : "cannot be opened: " + errno_text(errno);
    return false;
  }
  const char *wrong = "is not a regular file";
  if (S_ISREG(status.st_mode)) {
    file.size_ = static_cast<std::uint64_t>(status.st_size);
    wrong = file.read_headers();
  }
  if (wrong != nullptr) why = wrong;
  return wrong == nullptr;
}

bool SymbolFile::read_at(void *out, std::size_t size, std::uint64_t offset) const {
  auto *bytes = static_cast<char *>(out);
  while (size > 0) {
    const long got = read_some(fd_.get(), bytes, size, offset);
    if (got <= 0) return false;
    bytes += got;
    size -= static_cast<std::size_t>(got);
    offset += static_cast<std::uint64_t>(got);
  }
  return true;
}

const char *SymbolFile::read_headers() {
  Elf64_Ehdr header;
  if (!read_at(&header, sizeof header, 0) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
    return "is not an ELF file";
  const unsigned char byte_order = std::endian::native == std::endian::little ? ELFDATA2LSB : ELFDATA2MSB;
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != byte_order ||
      header.e_machine != arch::Native::kMachine)
    return "is for another machine";
  if (header.e_type != ET_DYN && header.e_type != ET_EXEC) return "is neither a program nor a shared library";
  if (const char *wrong = read_sections(header)) return wrong;
  // Sections first: a debug file keeps the program headers of the object, which lead nowhere in it.
  if (build_id_.empty()) read_segments(header);
  return nullptr;
}

void SymbolFile::read_segments(const Elf64_Ehdr &header) {
  for (unsigned k = 0; k < header.e_phnum && k < kMaximumSegments; ++k) {
    Elf64_Phdr segment;
    const Part part{header.e_phoff + std::uint64_t{k} * sizeof segment, sizeof segment};
    if (header.e_phentsize != sizeof segment || !is_inside(part) || !read_at(&segment, sizeof segment, part.offset))
      return;
    if (segment.p_type == PT_NOTE) read_notes({segment.p_offset, segment.p_filesz}, segment.p_align);
  }
}

const char *SymbolFile::read_sections(const Elf64_Ehdr &header) {
  if (header.e_shoff == 0) return nullptr;
  constexpr const char *kOutside = "has section headers that lie outside of it (is it truncated?)";
  Elf64_Shdr first;
  if (header.e_shentsize != sizeof first || !is_inside({header.e_shoff, sizeof first}) ||
      !read_at(&first, sizeof first, header.e_shoff))
    return kOutside;
  // Numbers that do not fit the header are in the first section header (System V ABI, "ELF Header").
  const std::uint64_t count = header.e_shnum != 0 ? header.e_shnum : first.sh_size;
  const std::uint64_t names_at = header.e_shstrndx != SHN_XINDEX ? header.e_shstrndx : first.sh_link;
  if (count > kMaximumSections || !is_inside({header.e_shoff, count * sizeof first})) return kOutside;
  PageVector<Elf64_Shdr> sections;
  if (!sections.reserve(count)) return "has too many section headers for the memory there is";
  if (!read_at(sections.data(), count * sizeof first, header.e_shoff)) return "has section headers that cannot be read";
  sections.set_size(count);

  const Part names = names_at < count ? Part{sections[names_at].sh_offset, sections[names_at].sh_size} : Part{};
  for (const Elf64_Shdr &section : sections) {
    const Part part{section.sh_offset, section.sh_size};
    if (section.sh_type == SHT_SYMTAB && symbols_.size == 0 && section.sh_link < count) {
      if (section.sh_entsize != sizeof(Elf64_Sym) || part.size / sizeof(Elf64_Sym) > kMaximumSymbols)
        return "has a symbol table of an impossible size";
      const Elf64_Shdr &strings = sections[section.sh_link];
      if (strings.sh_type != SHT_STRTAB || strings.sh_size > kMaximumStrings)
        return "has a symbol table whose strings have an impossible type or size";
      symbols_ = part;
      strings_ = {strings.sh_offset, strings.sh_size};
      if (!is_inside(symbols_) || !is_inside(strings_))
        return "has a symbol table that lies outside of it (is it truncated?)";
    } else if (section.sh_type == SHT_NOTE) {
      read_notes(part, section.sh_addralign);
    } else if (section.sh_type == SHT_PROGBITS && is_named(section, names, ".gnu_debuglink")) {
      read_debug_link(part);
    }
  }
  return nullptr;
}

bool SymbolFile::is_named(const Elf64_Shdr &section, const Part &names, const char *name) const {
  char text[32] = {};
  const std::size_t size = std::strlen(name) + 1;
  return section.sh_name < names.size && size <= names.size - section.sh_name && is_inside(names) &&
         size <= sizeof text && read_at(text, size, names.offset + section.sh_name) &&
         std::memcmp(text, name, size) == 0;
}

void SymbolFile::read_notes(const Part &notes, std::uint64_t align) {
  if (!build_id_.empty() || notes.size > kMaximumNotes || !is_inside(notes)) return;
  std::vector<std::uint8_t> bytes(notes.size);
  if (!read_at(bytes.data(), bytes.size(), notes.offset)) return;
  const std::uint64_t word = align == 8 ? 8 : 4;
  const auto padded = [word](std::uint64_t size) { return (size + word - 1) / word * word; };
  for (std::uint64_t at = 0; at <= bytes.size() && bytes.size() - at >= sizeof(Elf64_Nhdr);) {
    Elf64_Nhdr note;
    std::memcpy(&note, bytes.data() + at, sizeof note);
    const std::uint64_t name = at + sizeof note, content = padded(name + note.n_namesz);
    const std::uint64_t end = content + note.n_descsz;
    if (end > bytes.size()) return;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && std::memcmp(&bytes[name], "GNU", 4) == 0 &&
        note.n_descsz > 0 && note.n_descsz <= kMaximumId) {
      build_id_.assign(&bytes[content], &bytes[content] + note.n_descsz);
      return;
    }
    at = padded(end);
  }
}

/// A file name, NUL, padding to four bytes, and the sum of the file it names.
void SymbolFile::read_debug_link(const Part &link) {
  char bytes[512];
  if (link.size > sizeof bytes || link.size < 8 || !is_inside(link) || !read_at(bytes, link.size, link.offset)) return;
  const std::size_t length = strnlen(bytes, link.size), sum_at = (length + 4) / 4 * 4;
  if (length == 0 || sum_at + sizeof debug_link_sum_ > link.size || std::memchr(bytes, '/', length) != nullptr) return;
  debug_link_.assign(bytes, length);
  std::memcpy(&debug_link_sum_, bytes + sum_at, sizeof debug_link_sum_);
}

bool SymbolFile::read_strings(PageVector<char> &strings, std::string &why) const {
  if (!strings.reserve(strings_.size + 1)) {
    why = "has more strings than there is memory for";
    return false;
  }
  if (!read_at(strings.data(), strings_.size, strings_.offset)) {
    why = "has strings that cannot be read";
    return false;
  }
  strings.set_size(strings_.size + 1);
  strings.back() = '\0';
  return true;
}

bool SymbolFile::sum(std::uint32_t &sum) const {
  std::vector<unsigned char> bytes(std::size_t{64} << 10);
  sum = 0xffffffff;
  for (std::uint64_t offset = 0;;) {
    const long got = read_some(fd_.get(), bytes.data(), bytes.size(), offset);
    if (got < 0) return false;
    if (got == 0) break;
    for (long k = 0; k < got; ++k) sum = kSums[(sum ^ bytes[static_cast<std::size_t>(k)]) & 0xff] ^ sum >> 8;
    offset += static_cast<std::uint64_t>(got);
  }
  sum = ~sum;
  return true;
}

}  // namespace shunt::core
