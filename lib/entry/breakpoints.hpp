// breakpoints.hpp: where a thread goes on that runs into one of our breakpoints.
//
// The handler of SIGTRAP is installed before the first breakpoint stands, and stays: a thread that ran into one may be late, and
// find the breakpoint gone. It then calls the function again. Traps that are not ours go to the handler that was installed
// before, as if the kernel had called it. The application may install a handler of its own at any time; before each use of
// breakpoints it is looked at anew which one is installed, and ours put in front of it.
//
// What the application must not do is install one while a breakpoint stands, or block SIGTRAP then and call the function: the
// kernel ends a process that runs into a breakpoint it does not handle. The second is looked for before (threads/question.hpp).
#pragma once

#include <cstdint>

namespace shunt::core {

class Breakpoints {
 public:
  /// Installs the handler, in front of another one or anew.
  static bool install();

  /// Makes a place for a breakpoint at `site` in the table, for ever. False when there is no memory.
  static bool add(std::uintptr_t site);
  /// From now on whoever runs into the breakpoint at `site`, which was added, goes on at `to`. 0: it stands no longer.
  static void lead(std::uintptr_t site, std::uintptr_t to);

  /// How many threads ran into breakpoints so far.
  static std::uint64_t hits();
};

/// Asks the kernel for what synchronise_cores() needs: once, and some milliseconds (it waits for every core of the machine), so not
/// while breakpoints stand.
void prepare_cores();
/// Every core of the process reads its instructions anew, where that was prepared and is allowed. A page that was replaced is seen by
/// every core without it, where instructions are cached by physical address (x86-64).
void synchronise_cores();

}  // namespace shunt::core
