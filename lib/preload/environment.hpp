// environment.hpp: what the shim is told by the environment. Ignored where the program runs with more rights than its user
// (secure_getenv): there the dynamic linker drops most of LD_PRELOAD as well.
#pragma once

#include <shunt/shunt.h>

#include <string>
#include <vector>

namespace shunt::preload {

struct Environment {
  std::vector<std::string> patches;  // SHUNT_PATCH=a.so:b.so
  std::string folder;                // SHUNT_DIR
  std::string socket;                // SHUNT_SOCKET=path or off; "": not set
  int signal = 0;                    // SHUNT_SIGNAL=USR2 (SIGUSR2 and a number do as well); 0: none
  bool logs = false;                 // SHUNT_LOG=level[:file], level:syslog
  shunt_log_level log_level = SHUNT_LOG_WARNING;
  std::string log_file;  // "": stderr
  bool logs_to_syslog = false;
  std::string syslog_socket = "/dev/log";  // no variable sets it: a test has another
  std::vector<std::string> complaints;     // what could not be understood
};

Environment read_environment();

}  // namespace shunt::preload
