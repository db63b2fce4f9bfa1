#include "memory/protections.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/syscalls.hpp"
#include "memory/map_lines.hpp"

namespace shunt::core {
namespace {

// linux/fs.h of Linux 6.11: older headers do not have it.
struct ProcmapQuery {
  std::uint64_t size, query_flags, query_addr;
  std::uint64_t vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
  std::uint32_t dev_major, dev_minor, vma_name_size, build_id_size;
  std::uint64_t vma_name_addr, build_id_addr;
};
constexpr unsigned long kProcmapQuery = _IOWR('f', 17, ProcmapQuery);
constexpr std::uint64_t kReadable = 1, kWritable = 2, kExecutable = 4;

}  // namespace

bool parse_maps(const char *text, std::size_t size, PageVector<Mapping> &mappings) {
  std::string_view rest(text, size);
  for (MapLine line; next_map_line(rest, line);)
    if (!mappings.push_back({line.begin, line.end, line.protection})) return false;
  return true;
}

int Protections::at(std::uintptr_t address, Mapping &mapping) {
  if (!maps_.is_open()) {
    // Raw: open() is a function that users redirect.
    maps_ = Fd(static_cast<int>(sys::call(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC)));
    if (!maps_.is_open()) return -errno;
  }
  if (ask_ == Ask::kernel) {
    const int result = query(address, mapping);
    if (result == 0 || result == -ENOENT) return result == 0 ? 0 : -ENOMEM;
    ask_ = Ask::whole_map;  // this kernel does not know the question, or a sandbox forbids it
  }
  if (!has_read_all_)
    if (const int failed = read_all()) return failed;
  const Mapping *found = std::upper_bound(all_.begin(), all_.end(), address,
                                          [](std::uintptr_t value, const Mapping &m) { return value < m.end; });
  if (found == all_.end() || address < found->begin) return -ENOMEM;
  mapping = *found;
  return 0;
}

int Protections::query(std::uintptr_t address, Mapping &mapping) {
  ProcmapQuery query{};
  query.size = sizeof query;
  query.query_addr = address;
  if (sys::call(SYS_ioctl, maps_.get(), kProcmapQuery, &query) != 0) return -errno;
  mapping = {query.vma_start, query.vma_end,
             ((query.vma_flags & kReadable) != 0 ? PROT_READ : 0) |
                 ((query.vma_flags & kWritable) != 0 ? PROT_WRITE : 0) |
                 ((query.vma_flags & kExecutable) != 0 ? PROT_EXEC : 0)};
  return 0;
}

int Protections::read_all() {
  PageVector<char> text;
  std::size_t filled = 0;
  if (!text.reserve(std::size_t{256} << 10)) return -ENOMEM;
  for (;;) {
    if (filled == text.capacity() && !text.reserve(filled * 2)) return -ENOMEM;
    const long got = sys::call(SYS_read, maps_.get(), text.data() + filled, text.capacity() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  has_read_all_ = true;
  return parse_maps(text.data(), filled, all_) ? 0 : -ENOMEM;
}

}  // namespace shunt::core
