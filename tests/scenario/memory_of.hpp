// memory_of.hpp: what the memory of loaded files looks like, to be compared before and after.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <iterator>
#include <map>
#include <ostream>
#include <sstream>
#include <string>

namespace scenario {

struct Page {
  std::string protection;  // as the kernel writes it: "r--p"
  std::string bytes;       // "" unless they were asked for
  bool operator==(const Page &) const = default;
  friend std::ostream &operator<<(std::ostream &out, const Page &page) { return out << page.protection; }
};
using Pages = std::map<std::uintptr_t, Page>;

/// Every page of the mapped files whose path contains `part`, one by one: mappings may be split and merged in between.
inline Pages pages_of(const std::string &part, bool with_bytes) {
  Pages pages;
  const auto page_size = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  // The kernel reads for us: sanitizers watch the gaps between variables, and may watch memcpy.
  const int memory = with_bytes ? open("/proc/self/mem", O_RDONLY | O_CLOEXEC) : -1;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find(part, line.find('/')) == std::string::npos) continue;
    std::istringstream fields(line);
    std::uintptr_t begin = 0, end = 0;
    char dash = 0;
    std::string protection;
    fields >> std::hex >> begin >> dash >> end >> protection;
    for (; begin < end; begin += page_size) {
      Page &page = pages[begin];
      page.protection = protection;
      if (!with_bytes || protection[0] != 'r') continue;
      page.bytes.resize(page_size);
      if (pread(memory, page.bytes.data(), page_size, static_cast<off_t>(begin)) != static_cast<ssize_t>(page_size))
        page.bytes = "unreadable";
    }
  }
  if (memory >= 0) close(memory);
  return pages;
}

inline Pages protections_of(const std::string &part) { return pages_of(part, false); }
inline Pages memory_of(const std::string &part) { return pages_of(part, true); }

/// The protection of the page that holds `address`: "r--p".
inline std::string protection_at(std::uint64_t address, const Pages &pages) {
  const auto next = pages.upper_bound(address);
  return next == pages.begin() ? "" : std::prev(next)->second.protection;
}

/// The word at `address`, such as a slot's value.
inline std::uint64_t word_at(std::uint64_t address) {
  return __atomic_load_n(reinterpret_cast<const std::uint64_t *>(address), __ATOMIC_ACQUIRE);
}

}  // namespace scenario
