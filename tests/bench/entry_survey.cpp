// entry-survey LIBRARY…: plans an entry redirect of every function of these libraries, and prints how many can be redirected, in
// which form, and why the others cannot. Functions are those of the symbol tables and those that .eh_frame describes, so static
// ones count as well. The answer is 1 when in one library fewer than 95 % of the functions of 5 bytes and more can be.
//
// Nothing is written. A library is loaded, since tables of addresses are only filled in then.
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "arch/jump_targets.hpp"
#include "arch/native_code.hpp"
#include "elf/call_frames.hpp"

namespace {

using namespace shunt::core;
using arch::Bytes;
using arch::EntryPlan;
using arch::NativeCode;

struct Range {
  std::uint64_t begin = 0, end = 0;
  bool has_landing_pads = false;
  std::string name = {};
};

struct Loaded {
  const link_map *map = nullptr;
  Bytes text, image, frames;
  std::vector<Bytes> data;
};

Bytes memory_at(std::uint64_t address, std::size_t size) {
  return {address, reinterpret_cast<const std::uint8_t *>(address), size};
}

bool load(const char *name, Loaded &loaded) {
  void *library = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
  if (library == nullptr || dlinfo(library, RTLD_DI_LINKMAP, &loaded.map) != 0) {
    std::fprintf(stderr, "entry-survey: %s\n", dlerror());
    return false;
  }
  dl_iterate_phdr(
      [](dl_phdr_info *info, std::size_t, void *argument) {
        Loaded &to = *static_cast<Loaded *>(argument);
        if (info->dlpi_addr != to.map->l_addr) return 0;
        for (int k = 0; k < info->dlpi_phnum; ++k) {
          const ElfW(Phdr) &header = info->dlpi_phdr[k];
          const Bytes bytes = memory_at(info->dlpi_addr + header.p_vaddr, header.p_memsz);
          if (header.p_type == PT_GNU_EH_FRAME) to.frames = bytes;
          if (header.p_type != PT_LOAD) continue;
          if ((header.p_flags & PF_X) != 0) to.text = bytes;
          to.data.push_back(bytes);
        }
        for (const Bytes &one : to.data)
          if (one.contains(to.frames.address, to.frames.size)) to.image = one;
        return 1;
      },
      &loaded);
  return loaded.text.size != 0;
}

/// The functions of .dynsym and .symtab, read from the file.
void add_symbols(const Loaded &loaded, std::map<std::uint64_t, Range> &functions) {
  const int fd = open(loaded.map->l_name, O_RDONLY | O_CLOEXEC);
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
      const std::uint64_t begin = loaded.map->l_addr + symbol.st_value;
      Range &range = functions[begin];
      range.begin = begin;
      range.end = begin + symbol.st_size;
      range.name = names + symbol.st_name;
    }
  }
  munmap(const_cast<char *>(file), size);
}

std::vector<Range> functions_of(const Loaded &loaded) {
  std::map<std::uint64_t, Range> functions;
  const CallFrames frames(loaded.frames, loaded.image);
  CallFrame frame;
  for (std::size_t k = 0; k < frames.size(); ++k)
    if (frames.at(k, frame)) functions[frame.begin] = {frame.begin, frame.end, frame.has_landing_pads};
  add_symbols(loaded, functions);
  std::vector<Range> sorted;
  for (const auto &[begin, range] : functions)
    if (loaded.text.contains(begin, range.end - begin)) sorted.push_back(range);
  return sorted;
}

struct Row {
  std::size_t functions = 0, plannable = 0;
  std::map<std::string, std::size_t> forms, refusals;
};

Row survey(const Loaded &loaded, bool is_verbose) {
  const std::vector<Range> functions = functions_of(loaded);
  arch::JumpTargets jumps;
  if (!jumps.find<NativeCode>(loaded.text)) return {};
  Row row;
  std::uint64_t end_before = loaded.text.address;
  for (std::size_t k = 0; k < functions.size(); ++k) {
    const Range &range = functions[k];
    const std::uint64_t next =
        k + 1 < functions.size() ? functions[k + 1].begin : loaded.text.address + loaded.text.size;
    arch::Function function;
    function.body = memory_at(range.begin, range.end - range.begin);
    function.before = range.begin > end_before ? range.begin - end_before : 0;
    function.after = next > range.end ? next - range.end : 0;
    function.text = loaded.text;
    function.data = loaded.data;
    function.jumps = &jumps;
    function.has_landing_pads = range.has_landing_pads;
    end_before = std::max(end_before, range.end);
    if (function.body.size < 5) continue;

    const EntryPlan plan = NativeCode::plan(function);
    row.functions += 1;
    if (plan.form == arch::JumpForm::refused) {
      row.refusals[arch::refusal_text(plan.refusal)] += 1;
      if (is_verbose)
        std::printf("%#" PRIx64 " +%#x of %zu %s %s\n", range.begin - loaded.map->l_addr, plan.refused_at,
                    function.body.size, range.name.c_str(), arch::refusal_text(plan.refusal));
    } else {
      row.plannable += 1;
      row.forms[std::string(plan.copies_body ? "copy, " : "") + arch::form_name(plan.form)] += 1;
    }
  }
  return row;
}

}  // namespace

int main(int count, char **arguments) {
  const bool is_verbose = std::getenv("ENTRY_SURVEY_VERBOSE") != nullptr;
  if (!NativeCode::ready()) {
    std::printf("the decoder's library is not installed\n");
    return 77;
  }
  bool is_enough = true;
  for (int k = 1; k < count; ++k) {
    Loaded loaded;
    if (!load(arguments[k], loaded)) return 2;
    const Row row = survey(loaded, is_verbose);
    const double percent =
        row.functions == 0 ? 0 : 100.0 * static_cast<double>(row.plannable) / static_cast<double>(row.functions);
    std::printf("%-24s %6zu functions, %6.2f %% plannable\n", arguments[k], row.functions, percent);
    for (const auto &[name, number] : row.forms) std::printf("  %6zu  %s\n", number, name.c_str());
    for (const auto &[name, number] : row.refusals) std::printf("  %6zu  refused: %s\n", number, name.c_str());
    is_enough = is_enough && percent >= 95;
  }
  return is_enough ? 0 : 1;
}
