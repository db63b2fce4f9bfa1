// log.hpp: the shim's log: whole lines, appended with one write(2) each, to stderr, a file, or the
// system's log. That last by a socket of its own: openlog(3) and syslog(3) belong to the application. No logging library: nothing
// comes into a stranger's process that need not.
#pragma once

#include <shunt/shunt.h>

#include <string>

#include "preload/environment.hpp"

namespace shunt::preload {

/// Sends the library's log where the environment says. When the application closes the log's descriptor, it is opened again.
/// A file that cannot be opened is told on stderr, which is used instead.
void start_log(const Environment &environment);

/// One line "shunt[PID]: level: text".
void say(shunt_log_level level, const std::string &text);

}  // namespace shunt::preload
