#include "base/log.hpp"

#include <pthread.h>

#include <cstdarg>
#include <cstdio>
#include <mutex>

namespace shunt::core {
namespace {

struct Sink {
  shunt_log_sink function = nullptr;
  void *user = nullptr;
  shunt_log_level level = SHUNT_LOG_ERROR;
};

std::mutex sink_mutex;
Sink current_sink;

}  // namespace

void hold_log_at_fork() {
  pthread_atfork([] { sink_mutex.lock(); }, [] { sink_mutex.unlock(); }, [] { sink_mutex.unlock(); });
}

void set_log(shunt_log_sink sink, void *user, shunt_log_level level) {
  const std::lock_guard lock(sink_mutex);
  current_sink = {sink, user, level};
}

void log(shunt_log_level level, const char *format, ...) {
  Sink sink;
  {
    const std::lock_guard lock(sink_mutex);
    sink = current_sink;
  }
  if (sink.function == nullptr || level < sink.level) return;
  char line[4096];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  for (char *at = line; *at != '\0'; ++at)
    if (static_cast<unsigned char>(*at) < ' ') *at = '?';
  sink.function(level, line, sink.user);
}

}  // namespace shunt::core
