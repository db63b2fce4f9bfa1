// control.hpp: shunt's one thread in the process, named "shunt". It sleeps until a client of the control socket asks something,
// a file comes into or leaves the folder, or the signal arrives.
//
// It blocks all signals, so none meant for the application is ever taken by it. The handler of the folder's signal only rings
// (wake.hpp). When the application installs a handler of its own for that signal, ours is gone; the thread looks now and then
// and says so once.
//
// fork(): everything here happens with one mutex held (lock.hpp), which who forks takes before, so the child finds it whole. The
// child closes its copies of the parent's descriptors and starts a thread of its own, which waits a moment before it makes a
// socket: most children exec at once, and are to leave no file behind. What vfork() and posix_spawn() make runs no handlers and is
// not touched.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace shunt::control {

struct Options {
  std::string socket;  // "": as docs/control.md says
  bool has_socket = true;
  std::vector<std::string> patches;  // applied now
  std::string folder;                // "": none
  int signal = 0;                    // 0: none
};

/// Errors: those of start_listening(); not_permitted in a program that runs with more rights than its user; wrong_state when it
/// was called before; system when there is no thread. Nothing was begun then. Else: the patches were applied or refused, the
/// folder was looked through, and the thread runs if there is something to wait for.
core::Result<core::Done> start(const Options &options);

/// The path of the process's socket, "" when it has none. It is valid for ever.
const char *path();

}  // namespace shunt::control
