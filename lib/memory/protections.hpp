// protections.hpp: what the kernel says a page's protection is now. Never assumed from program headers: the dynamic linker,
// another tool or the program itself may have changed it.
//
// Linux 6.11 and later answer for one address (ioctl PROCMAP_QUERY on /proc/self/maps); before that the whole map is read,
// once, in one buffer. Either way the file is opened at most once in the life of a Protections.
#pragma once

#include <cstdint>

#include "base/fd.hpp"
#include "base/page_vector.hpp"

namespace shunt::core {

struct Mapping {
  std::uintptr_t begin = 0, end = 0;
  int protection = 0;  // PROT_READ | PROT_WRITE | PROT_EXEC
};

class Protections {
 public:
  enum class Ask { kernel, whole_map };
  /// `whole_map`: as if the kernel did not answer for one address.
  explicit Protections(Ask ask = Ask::kernel) : ask_(ask) {}

  /// The mapping that holds `address`. 0, or -errno: -ENOMEM when nothing is mapped there. Allocates nothing by malloc.
  int at(std::uintptr_t address, Mapping &mapping);

 private:
  int query(std::uintptr_t address, Mapping &mapping);
  int read_all();

  Ask ask_;
  Fd maps_;
  bool has_read_all_ = false;
  PageVector<Mapping> all_;  // sorted
};

/// Parses /proc/PID/maps text. Lines that do not look like mappings are passed over. False when there is no memory.
bool parse_maps(const char *text, std::size_t size, PageVector<Mapping> &mappings);

}  // namespace shunt::core
