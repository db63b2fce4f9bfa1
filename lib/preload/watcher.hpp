// watcher.hpp: the shim's thread, which sleeps until a file comes into or leaves SHUNT_DIR or the signal arrives.
//
// The thread blocks all signals, so none meant for the application is ever taken by it. The handler of SHUNT_SIGNAL only
// writes to a descriptor that wakes the thread. When the application installs a handler of its own for that signal, ours is
// gone; the thread looks now and then and says so once.
//
// A child of fork() has the redirects but no thread: it starts one of its own, so that workers of a server follow the folder
// as their master does.
#pragma once

#include "preload/patches.hpp"

namespace shunt::preload {

/// Looks through the folder, then starts the thread. `signal` 0: none. Call once, from the shim's constructor.
void start_watching(const std::string &folder, int signal);

}  // namespace shunt::preload
