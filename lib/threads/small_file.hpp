// small_file.hpp: reads the small files in which the kernel tells of a thread. Raw: open() and read() are functions that users
// redirect.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <span>
#include <string_view>

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

}  // namespace shunt::core
