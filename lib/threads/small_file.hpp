// small_file.hpp: reads the small files in which the kernel tells of a thread. Raw: open() and read() are functions that users
// redirect.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/digits.hpp"
#include "base/fd.hpp"
#include "base/syscalls.hpp"

namespace shunt::core {

/// What fits into `buffer`. Empty when it cannot be read, with errno.
inline std::string_view read_small_file(const char *path, std::span<char> buffer) {
  const Fd file(static_cast<int>(sys::call(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC)));
  if (!file.is_open()) return {};
  std::size_t size = 0;
  while (size < buffer.size()) {
    const long got = sys::call(SYS_read, file.get(), buffer.data() + size, buffer.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return {};
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  return {buffer.data(), size};
}

/// A field of a file `stat`, counted from 1 as in proc(5); one behind the name. 0 when the kernel does not say.
inline std::uint64_t stat_field(const char *path, int field) {
  char buffer[1024];
  const std::string_view text = read_small_file(path, buffer);
  // "pid (name) state …": the name may hold anything, so from its end.
  std::string_view rest = text.substr(std::min(text.size(), text.rfind(')') + 1));
  for (int k = 2; k < field && !rest.empty(); ++k) {
    rest.remove_prefix(std::min(rest.size(), rest.find(' ')));
    if (!rest.empty()) rest.remove_prefix(1);
  }
  std::uint64_t value = 0;
  take_digits(rest, 10, value);
  return value;
}

}  // namespace shunt::core
