// processes.hpp: the processes of this machine that have shunt in them, and how to reach each one's socket. Nothing is asked of
// the processes themselves: all is read from /proc.
//
// A process that listens has an inode of a socket among its descriptors, and /proc/PID/net/unix says which path that inode is
// bound to; so a socket is found wherever SHUNT_SOCKET put it. The path is one of the process's mount namespace, which is seen
// from here under /proc/PID/root.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace shunt::cli {

struct Process {
  pid_t pid = 0, parent = 0;
  std::uint64_t started = 0;  // clock ticks after boot: tells a process from a later one with the same PID
  uid_t uid = 0;
  std::string name;                               // /proc/PID/comm
  std::string program;                            // /proc/PID/exe, "" where that may not be read
  std::uint64_t device = 0, inode = 0;            // of the program: the same file, whatever its path
  std::uint64_t code_start = 0, stack_start = 0;  // addresses, 0 where they may not be read
  bool is_dead = false;                           // a zombie
  bool is_stopped = false;                        // by SIGSTOP and its like: nothing of it runs

  /// The same program at the same addresses, which exec() chooses anew: what one got of another by fork() alone.
  [[nodiscard]] bool is_forked_like(const Process &other) const {
    return inode != 0 && device == other.device && inode == other.inode && code_start == other.code_start &&
           stack_start == other.stack_start;
  }
};

/// What /proc says about one process; nothing when there is none.
std::optional<Process> read_process(pid_t pid);

/// All processes, in ascending order of PID.
std::vector<Process> all_processes();

/// Whether libshunt or the shim is mapped into the process: true also in the moment before it listens.
bool has_shunt(pid_t pid);

/// Whether this user may look into the process (its descriptors and maps).
bool may_inspect(pid_t pid);

/// The paths of sockets of the process, as it sees them, that look like shunt's: it listens on them, they are of SOCK_SEQPACKET, and
/// it has a thread that is named `shunt`.
std::vector<std::string> listening_paths(pid_t pid);

}  // namespace shunt::cli
