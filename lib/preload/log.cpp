#include "preload/log.hpp"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <mutex>

#include "base/guarded_fd.hpp"

namespace shunt::preload {
namespace {

enum class Sink { standard_error, file, syslog };

std::mutex log_mutex;  // the last of all locks: nothing else is taken while it is held
Sink sink = Sink::standard_error;
core::GuardedFd log_fd;
std::string *log_file =
    nullptr;  // absolute; or the socket of the system's log. Never destroyed: there are lines until the very end
shunt_log_level lowest = SHUNT_LOG_WARNING;

void remember_path(const std::string &path) {
  if (log_file == nullptr) log_file = new std::string;
  *log_file = path;
}

core::GuardedFd open_file() {
  return core::GuardedFd::keep(open(log_file->c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
}

core::GuardedFd open_syslog() {
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, log_file->c_str(), sizeof address.sun_path - 1);
  if (fd < 0 || connect(fd, reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0)
    return core::GuardedFd::keep(fd);
  const int number = errno;
  close(fd);
  errno = number;
  return {};
}

std::string utc_stamp() {
  char stamp[32];
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ ", &utc);
  return stamp;
}

/// False when the line was not taken.
bool write_to_file(const std::string &line) {
  if (!log_fd.is_ours()) log_fd = open_file();
  const std::string whole = utc_stamp() + line + "\n";
  return log_fd.is_open() && write(log_fd.fd, whole.data(), whole.size()) >= 0;
}

/// RFC 3164, as far as the local daemon wants it: it adds the time. A daemon that was restarted has another socket.
bool write_to_syslog(shunt_log_level level, const std::string &line) {
  static constexpr int kSeverities[] = {LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERR};
  const std::string whole = "<" + std::to_string(LOG_DAEMON | kSeverities[level]) + ">" + line;
  for (int tries = 0; tries < 2; ++tries) {
    if (!log_fd.is_ours()) log_fd = open_syslog();
    if (!log_fd.is_open()) return false;
    if (send(log_fd.fd, whole.data(), whole.size(), MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return true;
    if (errno == EAGAIN) return false;  // it does not keep up
    log_fd.close();
  }
  return false;
}

}  // namespace

void say(shunt_log_level level, const std::string &text) {
  if (level < lowest) return;
  static constexpr const char *kNames[] = {"debug", "info", "warning", "error"};
  const std::string process = "shunt[" + std::to_string(getpid()) + "]: ";
  const std::string line = process + kNames[level] + ": " + text;
  const int saved = errno;
  {
    const std::lock_guard lock(log_mutex);
    const bool is_taken =
        (sink == Sink::file && write_to_file(line)) || (sink == Sink::syslog && write_to_syslog(level, line));
    if (!is_taken && sink == Sink::standard_error) {
      const std::string whole = line + "\n";
      [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, whole.data(), whole.size());
    }
  }
  errno = saved;
}

void start_log(const Environment &environment) {
  lowest = environment.log_level;
  // Before the library's own handlers are made, which it does when its log is set: so this lock is taken after its locks.
  pthread_atfork([] { log_mutex.lock(); }, [] { log_mutex.unlock(); }, [] { log_mutex.unlock(); });
  if (environment.logs_to_syslog) {
    remember_path(environment.syslog_socket);
    log_fd = open_syslog();
    if (!log_fd.is_open())
      say(SHUNT_LOG_ERROR, std::string("cannot reach the system's log: ") + strerrordesc_np(errno));
    if (log_fd.is_open()) sink = Sink::syslog;
  } else if (!environment.log_file.empty()) {
    remember_path(environment.log_file);
    log_fd = open_file();
    if (!log_fd.is_open())
      say(SHUNT_LOG_ERROR, "cannot open the log " + environment.log_file + ": " + strerrordesc_np(errno));
    // To be found again when the program has changed its directory.
    char real[PATH_MAX];
    if (log_fd.is_open() && realpath(log_file->c_str(), real) != nullptr) *log_file = real;
    if (log_fd.is_open()) sink = Sink::file;
  }
  shunt_set_log([](shunt_log_level level, const char *line, void *) { say(level, line); }, nullptr, lowest);
}

}  // namespace shunt::preload
