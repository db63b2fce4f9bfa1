#include "elf/file_image.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "arch/native.hpp"

namespace shunt::core {
namespace {

constexpr std::uint64_t kMaximumSize = std::uint64_t{1} << 30;
constexpr unsigned kMaximumHeaders = 256;

/// Exactly `size` bytes at `offset`; false when the file is shorter or cannot be read.
bool read_at(int fd, void *out, std::size_t size, std::uint64_t offset) {
  auto *bytes = static_cast<char *>(out);
  while (size > 0) {
    const ssize_t got = pread(fd, bytes, size, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    bytes += got;
    size -= static_cast<std::size_t>(got);
    offset += static_cast<std::uint64_t>(got);
  }
  return true;
}

Error malformed(const char *name, const char *why) {
  Error error = make_error(Code::patch_malformed, "%s is not a shared library that can be loaded: %s", name, why);
  error.object = name;
  return error;
}

}  // namespace

Result<FileImage> FileImage::read(int fd, const char *name, Accept accept) {
  struct stat status {};
  if (fstat(fd, &status) != 0) return file_error(Code::patch_unreadable, name, "cannot be examined", errno);
  const auto file_size = static_cast<std::uint64_t>(status.st_size);
  Elf64_Ehdr header;
  if (file_size < sizeof header || !read_at(fd, &header, sizeof header, 0)) return malformed(name, "it is too short");
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return malformed(name, "it is not an ELF file");
  const unsigned char byte_order = std::endian::native == std::endian::little ? ELFDATA2LSB : ELFDATA2MSB;
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != byte_order ||
      header.e_machine != arch::Native::kMachine) {
    Error error = make_error(Code::patch_architecture,
                             "%s is for another architecture (ELF class %d, machine %d); this process is %s", name,
                             header.e_ident[EI_CLASS], header.e_machine, arch::Native::kName);
    error.object = name;
    return error;
  }
  if (header.e_type != ET_DYN && (header.e_type != ET_EXEC || accept != Accept::programs))
    return malformed(name, "it is not a shared library (link it with -shared)");
  if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == 0 || header.e_phnum > kMaximumHeaders)
    return malformed(name, "its program headers have an impossible size or number");

  FileImage file;
  file.headers_ = std::make_unique<std::vector<Elf64_Phdr>>(header.e_phnum);
  if (!read_at(fd, file.headers_->data(), header.e_phnum * sizeof(Elf64_Phdr), header.e_phoff))
    return malformed(name, "its program headers lie outside the file");

  std::uint64_t low = UINT64_MAX, high = 0;
  for (const Elf64_Phdr &segment : *file.headers_) {
    if (segment.p_type != PT_LOAD) continue;
    if (segment.p_filesz > segment.p_memsz || segment.p_offset > file_size ||
        segment.p_filesz > file_size - segment.p_offset)
      return malformed(name, "a segment reaches outside the file (is it truncated?)");
    if (segment.p_vaddr > kMaximumSize || segment.p_memsz > kMaximumSize)
      return malformed(name, "a segment is larger than 1 GiB");
    low = std::min(low, segment.p_vaddr);
    high = std::max(high, segment.p_vaddr + segment.p_memsz);
  }
  if (high == 0) return malformed(name, "it has no PT_LOAD segment");
  constexpr std::uint64_t kWord = 16;  // keeps every table as aligned as it is in the file
  low = low / kWord * kWord;
  if (!file.memory_.reserve(high - low)) return make_error(Code::out_of_memory, "no memory to look at %s", name);
  file.memory_.set_size(high - low);
  for (const Elf64_Phdr &segment : *file.headers_)
    if (segment.p_type == PT_LOAD &&
        !read_at(fd, file.memory_.data() + (segment.p_vaddr - low), segment.p_filesz, segment.p_offset))
      return malformed(name, "a segment cannot be read");

  Problem problem;
  file.image_ = Image::parse(reinterpret_cast<std::uintptr_t>(file.memory_.data()) - low, *file.headers_, problem);
  if (problem) return malformed(name, problem.message);
  return file;
}

}  // namespace shunt::core
