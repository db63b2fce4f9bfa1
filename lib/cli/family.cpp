#include "cli/family.hpp"

#include <poll.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>

#include "cli/plan_text.hpp"

namespace shunt::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kForkPatience{5};  // a child listens some 20 ms after its fork
constexpr std::chrono::seconds kLockPatience{60};
constexpr int kPollMilliseconds = 10;

void pause_a_moment() { poll(nullptr, 0, kPollMilliseconds); }

/// One that may be a member.
struct Relative {
  Process process;
  bool is_sure;  // its parent is a member
};

bool has_relative_for_parent(const Process &process, const std::vector<Process> &all) {
  return std::any_of(all.begin(), all.end(), [&](const Process &other) {
    return other.pid == process.parent && !other.is_dead && other.is_forked_like(process);
  });
}

/// The root first, then orphans that look like it, then the children of these, theirs, and so on. Zombies are left out.
std::vector<Relative> relatives_of(const Process &root, Scope scope) {
  std::vector<Relative> relatives = {{root, true}};
  if (scope == Scope::only_this) return relatives;
  const std::vector<Process> all = all_processes();
  if (!has_relative_for_parent(root, all))
    for (const Process &process : all)
      if (process.pid != root.pid && !process.is_dead && process.is_forked_like(root) &&
          !has_relative_for_parent(process, all))
        relatives.push_back({process, false});
  for (std::size_t k = 0; k < relatives.size(); ++k)
    for (const Process &process : all)
      if (process.parent == relatives[k].process.pid && !process.is_dead && process.is_forked_like(root))
        relatives.push_back({process, relatives[k].is_sure});
  return relatives;
}

std::string origin_of(const Connection &connection) { return text_of(connection.hello(), "origin"); }

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
  const std::string origin = origin_of(connection_);
  for (const auto &[process, is_sure] : relatives_of(root_, scope_)) {
    if (is_known(process)) continue;
    std::optional<Connection> connection = connect_when_ready(process, process.pid == root_.pid);
    if (!connection) continue;
    known_.push_back(process);
    if (is_sure || (!origin.empty() && origin_of(*connection) == origin)) connections.push_back(std::move(*connection));
  }
  return connections;
}

bool are_one_family(const std::vector<Process> &processes) {
  std::string origin;
  for (const Process &process : processes) {
    if (!process.is_forked_like(processes.front())) return false;
    try {
      const std::string one = origin_of(Connection::open(process, kGlance));
      if (one.empty() || (!origin.empty() && one != origin)) return false;
      origin = one;
    } catch (const Failure &) {
      return false;
    }
  }
  return true;
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
