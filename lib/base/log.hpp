// log.hpp: the library's log is a callback that the host sets; without one nothing is formatted. Never call this while
// slots are being written or the loader's lock is held: the callback is foreign code.
#pragma once

#include <shunt/shunt.h>

namespace shunt::core {

/// Takes the log's own lock around fork(), so that the child finds it free. Once, before the handlers of whoever logs while it
/// holds a lock.
void hold_log_at_fork();

/// Control characters in a line become '?': it may hold names that a stranger chose.
void set_log(shunt_log_sink sink, void *user, shunt_log_level level);
[[gnu::format(printf, 2, 3)]] void log(shunt_log_level level, const char *format, ...);

}  // namespace shunt::core
