// map_lines.hpp: the lines of /proc/self/maps, one mapping each.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/page_vector.hpp"

namespace shunt::core {

struct MapLine {
  std::uintptr_t begin = 0, end = 0;
  int protection = 0;  // PROT_READ | PROT_WRITE | PROT_EXEC
  bool is_shared = false;
  std::uint64_t offset = 0;
  std::uint32_t device_major = 0, device_minor = 0;
  std::uint64_t inode = 0;     // 0: no file
  std::string_view name = {};  // as the kernel writes it: a newline is \012, a file that is gone ends in " (deleted)"
};

/// Reads the whole of /proc/self/maps. 0, or -errno. The text is one moment's only as far as the kernel makes it so.
int read_map_text(PageVector<char> &text);

/// The next mapping of `text`, which begins with it and is cut down to what follows. False at the end. Lines that do not look like
/// mappings are passed over; what is missing behind the protection is 0.
bool next_map_line(std::string_view &text, MapLine &line);

}  // namespace shunt::core
