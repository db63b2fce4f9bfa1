#include "preload/log.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>

namespace shunt::preload {
namespace {

int log_fd = STDERR_FILENO;
shunt_log_level lowest = SHUNT_LOG_WARNING;

}  // namespace

void say(shunt_log_level level, const std::string &text) {
  if (level < lowest) return;
  static constexpr const char *kNames[] = {"debug", "info", "warning", "error"};
  std::string line;
  if (log_fd != STDERR_FILENO) {
    char stamp[32];
    const std::time_t now = std::time(nullptr);
    std::tm utc{};
    gmtime_r(&now, &utc);
    std::strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ ", &utc);
    line = stamp;
  }
  line += "shunt[" + std::to_string(getpid()) + "]: " + kNames[level] + ": " + text + "\n";
  [[maybe_unused]] const ssize_t written = write(log_fd, line.data(), line.size());
}

void start_log(const Environment &environment) {
  lowest = environment.log_level;
  if (!environment.log_file.empty()) {
    const int fd = open(environment.log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd >= 0) {
      log_fd = fd;
    } else {
      say(SHUNT_LOG_ERROR, "cannot open the log " + environment.log_file + ": " + strerrordesc_np(errno));
    }
  }
  shunt_set_log([](shunt_log_level level, const char *line, void *) { say(level, line); }, nullptr, lowest);
}

}  // namespace shunt::preload
