#include "library_functions.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "elf/call_frames.hpp"

namespace shunt::core {
namespace {

arch::Bytes memory_at(std::uint64_t address, std::size_t size) {
  return {address, reinterpret_cast<const std::uint8_t *>(address), size};
}

/// The functions of .dynsym and .symtab, read from the file.
void add_symbols(const link_map &map, std::map<std::uint64_t, LibraryFunction> &functions) {
  const int fd = open(map.l_name, O_RDONLY | O_CLOEXEC);
  struct stat status = {};
  if (fd < 0 || fstat(fd, &status) != 0) return;
  const auto size = static_cast<std::size_t>(status.st_size);
  const auto *file = static_cast<const char *>(mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0));
  close(fd);
  if (file == MAP_FAILED) return;
  const auto *header = reinterpret_cast<const Elf64_Ehdr *>(file);
  const auto *sections = reinterpret_cast<const Elf64_Shdr *>(file + header->e_shoff);
  for (int k = 0; k < header->e_shnum; ++k) {
    if (sections[k].sh_type != SHT_DYNSYM && sections[k].sh_type != SHT_SYMTAB) continue;
    const auto *symbols = reinterpret_cast<const Elf64_Sym *>(file + sections[k].sh_offset);
    const char *names = file + sections[sections[k].sh_link].sh_offset;
    for (std::size_t s = 0; s < sections[k].sh_size / sizeof *symbols; ++s) {
      const Elf64_Sym &symbol = symbols[s];
      if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_shndx == SHN_UNDEF || symbol.st_size == 0) continue;
      const std::uint64_t begin = map.l_addr + symbol.st_value;
      LibraryFunction &range = functions[begin];
      range.begin = begin;
      range.end = begin + symbol.st_size;
      range.name = names + symbol.st_name;
    }
  }
  munmap(const_cast<char *>(file), size);
}

}  // namespace

bool Library::load(const char *name) {
  handle_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (handle_ == nullptr || dlinfo(handle_, RTLD_DI_LINKMAP, &map_) != 0) {
    std::fprintf(stderr, "%s\n", dlerror());
    return false;
  }
  add_segments();
  if (!jumps_.find<arch::NativeCode>(text_)) return false;
  find_functions();
  return true;
}

void Library::add_segments() {
  dl_iterate_phdr(
      [](dl_phdr_info *info, std::size_t, void *argument) {
        Library &to = *static_cast<Library *>(argument);
        if (info->dlpi_addr != to.map_->l_addr) return 0;
        for (int k = 0; k < info->dlpi_phnum; ++k) {
          const ElfW(Phdr) &header = info->dlpi_phdr[k];
          const arch::Bytes bytes = memory_at(info->dlpi_addr + header.p_vaddr, header.p_memsz);
          if (header.p_type == PT_GNU_EH_FRAME) to.frames_ = bytes;
          if (header.p_type != PT_LOAD) continue;
          if ((header.p_flags & PF_X) != 0) to.text_ = bytes;
          to.data_.push_back(bytes);
        }
        return 1;
      },
      this);
  for (const arch::Bytes &one : data_)
    if (one.contains(frames_.address, frames_.size)) image_ = one;
}

void Library::find_functions() {
  std::map<std::uint64_t, LibraryFunction> functions;
  const CallFrames frames(frames_, image_);
  CallFrame frame;
  for (std::size_t k = 0; k < frames.size(); ++k)
    if (frames.at(k, frame)) functions[frame.begin] = {frame.begin, frame.end, frame.has_landing_pads};
  add_symbols(*map_, functions);
  for (const auto &[begin, function] : functions)
    if (text_.contains(begin, function.end - begin)) functions_.push_back(function);
}

arch::Function Library::function(std::size_t k) const {
  const LibraryFunction &one = functions_[k];
  std::uint64_t end_before = text_.address;
  // Few functions overlap, and only with their neighbours.
  for (std::size_t before = k < 16 ? 0 : k - 16; before < k; ++before)
    end_before = std::max(end_before, functions_[before].end);
  const std::uint64_t next = k + 1 < functions_.size() ? functions_[k + 1].begin : text_.address + text_.size;
  arch::Function function;
  function.body = memory_at(one.begin, one.end - one.begin);
  function.before = one.begin > end_before ? one.begin - end_before : 0;
  function.after = next > one.end ? next - one.end : 0;
  function.text = text_;
  function.data = data_;
  function.jumps = &jumps_;
  function.has_landing_pads = one.has_landing_pads;
  return function;
}

}  // namespace shunt::core
