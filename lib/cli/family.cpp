#include "cli/family.hpp"

#include <poll.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>

namespace shunt::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kForkPatience{5};  // a child listens some 20 ms after its fork
constexpr std::chrono::seconds kLockPatience{60};
constexpr int kPollMilliseconds = 10;

void pause_a_moment() { poll(nullptr, 0, kPollMilliseconds); }

/// Nothing when it is no member any more.
std::optional<Connection> connect_when_ready(const Process &process, bool is_root) {
  const Clock::time_point deadline = Clock::now() + kForkPatience;
  for (;;) {
    try {
      return Connection::open(process);
    } catch (const Failure &failure) {
      if (!is_root && !is_still(process)) return std::nullopt;
      const bool may_come = failure.code == "no_socket" && !is_root;
      if (!may_come) throw;
      if (Clock::now() > deadline)
        throw Failure{failure.exit, failure.code, failure.message, "With --only, its parent alone is changed."};
    }
    pause_a_moment();
  }
}

}  // namespace

std::vector<Process> family_of(const Process &root, Scope scope) {
  std::vector<Process> family = {root};
  if (scope == Scope::only_this) return family;
  const std::vector<Process> all = all_processes();
  for (std::size_t k = 0; k < family.size(); ++k)
    for (const Process &process : all)
      if (process.parent == family[k].pid && !process.is_dead && process.is_forked_like(root))
        family.push_back(process);
  return family;
}

bool is_still(const Process &process) {
  const std::optional<Process> now = read_process(process.pid);
  return now && !now->is_dead && now->started == process.started && now->is_forked_like(process);
}

bool Family::is_known(const Process &process) const {
  return std::any_of(known_.begin(), known_.end(),
                     [&](const Process &one) { return one.pid == process.pid && one.started == process.started; });
}

std::vector<Connection> Family::newcomers() {
  std::vector<Connection> connections;
  for (const Process &process : family_of(root_, scope_)) {
    if (is_known(process)) continue;
    if (std::optional<Connection> connection = connect_when_ready(process, process.pid == root_.pid)) {
      connections.push_back(std::move(*connection));
      known_.push_back(process);
    }
  }
  return connections;
}

ChangeLock::ChangeLock(const Connection &root) : folder_(root.open_folder()) {
  // Without a folder to lock there is none: the socket's server still makes each change a whole one.
  const Clock::time_point deadline = Clock::now() + kLockPatience;
  while (folder_.is_open() && flock(folder_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return;
    if (Clock::now() > deadline)
      throw Failure{Exit::no, "busy", "another shunt has been changing " + called(root.process()) + " for a minute",
                    "Look what it is doing; nothing was changed by this one."};
    pause_a_moment();
  }
}

SignalsWait::SignalsWait() : before_{} {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, signal);
  sigprocmask(SIG_BLOCK, &set, &before_);
}

SignalsWait::~SignalsWait() { sigprocmask(SIG_SETMASK, &before_, nullptr); }

}  // namespace shunt::cli
