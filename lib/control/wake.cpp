#include "control/wake.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <new>

namespace shunt::control {

Wake *Wake::make(Wake *previous) {
  int ends[2];
  if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) return nullptr;
  const auto read_end = core::GuardedFd::keep(ends[0]);
  const auto write_end = core::GuardedFd::keep(ends[1]);
  auto *const wake = new (std::nothrow) Wake{read_end, write_end, previous};
  if (wake != nullptr && read_end.is_open() && write_end.is_open()) return wake;
  Wake{read_end, write_end, nullptr}.close();
  delete wake;
  errno = EMFILE;
  return nullptr;
}

void Wake::ring() const {
  const int saved = errno;
  if (write_end.is_ours()) [[maybe_unused]]
    const ssize_t written = write(write_end.fd, "", 1);
  errno = saved;
}

bool Wake::take() const {
  char bytes[64];
  bool was_rung = false;
  while (read_end.is_ours() && read(read_end.fd, bytes, sizeof bytes) > 0) was_rung = true;
  return was_rung;
}

void Wake::close() {
  read_end.close();
  write_end.close();
}

}  // namespace shunt::control
