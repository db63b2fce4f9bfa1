#include "base/guarded_fd.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace shunt::core {
namespace {

/// Where our numbers begin: near the limit, but not so high that the kernel's table of descriptors grows large for us.
int lowest_number() {
  constexpr rlim_t kRoom = 64, kHighest = 4096;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const rlim_t end = std::min(limit.rlim_cur, kHighest);
  return end > 2 * kRoom ? static_cast<int>(end - kRoom) : 0;
}

}  // namespace

GuardedFd GuardedFd::keep(int fd) {
  if (fd < 0) return {};
  int high = fcntl(fd, F_DUPFD_CLOEXEC, lowest_number());
  if (high < 0) high = fcntl(fd, F_DUPFD_CLOEXEC, 0);  // no number there is free
  struct stat status {};
  const bool is_known = high >= 0 && fstat(high, &status) == 0;
  const int number = errno;
  ::close(fd);
  if (is_known) return {high, status.st_dev, status.st_ino};
  if (high >= 0) ::close(high);
  errno = number;
  return {};
}

bool GuardedFd::is_ours() const {
  struct stat status {};
  return fd >= 0 && fstat(fd, &status) == 0 && status.st_dev == device && status.st_ino == inode;
}

void GuardedFd::close() {
  if (is_ours()) ::close(fd);
  *this = {};
}

}  // namespace shunt::core
