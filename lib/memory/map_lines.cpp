#include "memory/map_lines.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "base/digits.hpp"
#include "base/fd.hpp"
#include "base/syscalls.hpp"

namespace shunt::core {
namespace {

bool take(std::string_view &text, char expected) {
  if (text.empty() || text.front() != expected) return false;
  text.remove_prefix(1);
  return true;
}

/// "00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon": proc(5).
bool parse(std::string_view text, MapLine &line) {
  line = MapLine{};
  if (!take_digits(text, 16, line.begin) || !take(text, '-') || !take_digits(text, 16, line.end) || !take(text, ' ') ||
      text.size() < 4 || line.begin >= line.end)
    return false;
  line.protection =
      (text[0] == 'r' ? PROT_READ : 0) | (text[1] == 'w' ? PROT_WRITE : 0) | (text[2] == 'x' ? PROT_EXEC : 0);
  line.is_shared = text[3] == 's';
  text.remove_prefix(4);
  std::uint64_t major = 0, minor = 0;
  if (!take(text, ' ') || !take_digits(text, 16, line.offset) || !take(text, ' ') || !take_digits(text, 16, major) ||
      !take(text, ':') || !take_digits(text, 16, minor) || !take(text, ' ') || !take_digits(text, 10, line.inode))
    return true;
  line.device_major = static_cast<std::uint32_t>(major);
  line.device_minor = static_cast<std::uint32_t>(minor);
  while (take(text, ' ')) {
  }
  line.name = text;
  return true;
}

}  // namespace

int read_map_text(PageVector<char> &text) {
  // Raw: open() and read() are functions that users redirect.
  const Fd file(static_cast<int>(sys::call(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC)));
  if (!file.is_open()) return -errno;
  text.clear();
  if (!text.reserve(std::size_t{64} << 10)) return -ENOMEM;
  for (;;) {
    if (text.size() == text.capacity() && !text.reserve(text.size() * 2)) return -ENOMEM;
    const long got = sys::call(SYS_read, file.get(), text.data() + text.size(), text.capacity() - text.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    if (got == 0) return 0;
    text.set_size(text.size() + static_cast<std::size_t>(got));
  }
}

bool next_map_line(std::string_view &text, MapLine &line) {
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string_view one = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (parse(one, line)) return true;
  }
  return false;
}

}  // namespace shunt::core
