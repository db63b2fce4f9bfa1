// guarded_fd.hpp: a descriptor that is kept for long in a stranger's process. The application may close every descriptor that
// it did not open, as daemons do, and get the number again for a file of its own. So a descriptor is known by the file behind it
// (device and inode), asked for before each use, and kept at a high number, so that the application's low ones are as they
// would be without us. Another thread may still close it between the question and the use: that window is a few instructions.
//
// Anonymous descriptors (eventfd, epoll, inotify) all have one inode, so for them this does not tell ours from theirs.
#pragma once

#include <sys/types.h>

namespace shunt::core {

/// Plain data: it closes nothing by itself. Fit for signal handlers, but for keep().
struct GuardedFd {
  int fd = -1;
  dev_t device = 0;
  ino_t inode = 0;

  /// Moves a descriptor to a high number; close-on-exec. The old number is closed. Not open when that fails, with errno.
  static GuardedFd keep(int fd);
  [[nodiscard]] bool is_open() const { return fd >= 0; }
  /// Is the number still that of our file?
  [[nodiscard]] bool is_ours() const;
  /// Closes it if it is ours, and forgets it.
  void close();
};

}  // namespace shunt::core
