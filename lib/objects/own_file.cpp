#include "objects/own_file.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/syscalls.hpp"
#include "base/trust.hpp"
#include "memory/map_lines.hpp"

namespace shunt::core {
namespace {

/// What /proc/self/maps says of the mapping at `address`. The line's name lies in `text`.
bool find_line(std::uintptr_t address, PageVector<char> &text, MapLine &line) {
  if (read_map_text(text) != 0) return false;
  std::string_view left(text.data(), text.size());
  while (next_map_line(left, line))
    if (address >= line.begin && address < line.end) return line.inode != 0;
  return false;
}

/// A page of the file is mapped for a moment, to see what the kernel calls it: on some file systems stat() has another device.
bool is_mapped_at(const SymbolFile &file, std::uintptr_t low) {
  const std::intptr_t page = sys::map(0, sys::page_size(), PROT_READ, MAP_PRIVATE, file.fd(), 0);
  if (page < 0) return false;
  PageVector<char> text;
  MapLine mine, objects;
  const bool is_known = find_line(static_cast<std::uintptr_t>(page), text, mine) && find_line(low, text, objects);
  sys::unmap(reinterpret_cast<void *>(page), sys::page_size());
  return is_known && mine.inode == objects.inode && mine.device_major == objects.device_major &&
         mine.device_minor == objects.device_minor;
}

bool is_trusted(const SymbolFile &file) {
  struct stat status {};
  return fstat(file.fd(), &status) == 0 && why_not_trusted(status) == nullptr;
}

/// Where to open it: the dynamic linker's name may be relative to a folder that the process has left.
std::string place_of(const OwnFileQuestion &question) {
  if (question.is_executable) return "/proc/self/exe";
  if (*question.path == '/') return question.path;
  PageVector<char> text;
  MapLine line;
  return find_line(question.low, text, line) ? std::string(line.name) : question.path;
}

}  // namespace

bool open_own_file(const OwnFileQuestion &question, SymbolFile &file, std::string &why) {
  const std::string place = question.is_loaded ? place_of(question) : question.path;
  if (!SymbolFile::open(place.c_str(), file, why)) return false;
  const std::span<const std::uint8_t> id = file.build_id();
  const bool has_id = std::equal(id.begin(), id.end(), question.build_id.begin(), question.build_id.end());
  if (!question.is_loaded) return true;
  if (has_id && !id.empty() && is_trusted(file)) return true;
  if (has_id && is_mapped_at(file, question.low)) return true;
  why = "is another file than the one that is loaded";
  return false;
}

}  // namespace shunt::core
