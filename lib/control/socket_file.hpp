// socket_file.hpp: where the control socket lies, and that nobody else can put something in its place: which folders are used,
// what is done about a file that a dead process left there, and the removal of our own.
//
// A folder is asked for its owner and mode before anything is made in it. Nobody but its owner (and root) can then exchange
// what is in it. The socket is bound by its real path, since that is how others find it in /proc/PID/net/unix.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "base/guarded_fd.hpp"
#include "base/result.hpp"

namespace shunt::control {

struct Listening {
  core::GuardedFd socket;
  std::string path;
  dev_t device = 0;  // of the file, so that no other is removed
  ino_t inode = 0;
};

/// "" or the path of SHUNT_SOCKET made absolute, so that a later chdir() does not matter.
core::Result<std::string> absolute_path(const std::string &path);

/// Listens at `given`, or, when that is "", in the first of the default folders that can be used. `is_child`: of fork(), so
/// `given` itself is its parent's. Errors: system, not_permitted (a folder that is not safe), invalid_argument.
core::Result<Listening> start_listening(const std::string &given, bool is_child);

/// Why a folder is not used; none: it is there now, and safe. `is_private`: nobody else may even enter it.
std::optional<core::Error> make_folder(const std::string &folder, bool is_private);

/// Removes the sockets of dead processes from a default folder that `path` lies in. Bounded: what is left is for the next one.
void remove_stale_sockets(const std::string &path);

/// Removes the file if it is still that socket's.
void remove_socket(const std::string &path, dev_t device, ino_t inode);

}  // namespace shunt::control
