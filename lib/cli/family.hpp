// family.hpp: a process and the children that it forked without exec, such as the workers of nginx: the same program with the
// same memory, so that a fix for one is a fix for all. Each has an engine of its own and is asked on its own socket; together
// they are changed all or none.
//
// The kernel gives a child whose parent has ended to another process, so parents do not lead to it any more. It is a member all the same
// where the process that was named is the eldest or such an orphan itself: it looks like a member, and says over its socket
// that it came of the same start (`origin` in docs/control.md), which no other process says.
//
// A child that is forked while we work either inherits what was done in its parent, or is found when we look again: the family is
// looked for anew until nobody is left who was not asked.
#pragma once

#include <csignal>
#include <vector>

#include "cli/connection.hpp"

namespace shunt::cli {

enum class Scope { family, only_this };

class Family {
 public:
  /// Connects to the root, not yet to its children. Throws Failure.
  Family(const Process &root, Scope scope) : scope_(scope), root_(root), connection_(Connection::open(root)) {}

  [[nodiscard]] const Process &root() const { return root_; }
  [[nodiscard]] Connection &root_connection() { return connection_; }

  /// Those that were not handed out before, the root first. A child that was just forked and does not listen yet is waited for, a
  /// few seconds; one that ends or becomes another program meanwhile is no member. Throws Failure.
  std::vector<Connection> newcomers();

 private:
  [[nodiscard]] bool is_known(const Process &process) const;

  Scope scope_;
  Process root_;
  Connection connection_;
  std::vector<Process> known_;  // those that were handed out, and strangers
};

/// Whether these processes, of which none is a child of another, came of one start. Asks each.
bool are_one_family(const std::vector<Process> &processes);

/// Still there, and the program it was?
bool is_still(const Process &process);

/// While it lives, no other `shunt` changes processes whose sockets are in the same folder. Released by the kernel when we end,
/// however we end. Throws Failure (no) when another one does not come to its end.
class ChangeLock {
 public:
  explicit ChangeLock(const Connection &root);

 private:
  core::Fd folder_;
};

/// While it lives, SIGINT, SIGTERM and SIGHUP wait: a family is not left half changed by a key.
class SignalsWait {
 public:
  SignalsWait();
  SignalsWait(const SignalsWait &) = delete;
  SignalsWait &operator=(const SignalsWait &) = delete;
  ~SignalsWait();

 private:
  sigset_t before_;
};

}  // namespace shunt::cli
