// preload.cpp: libshunt-preload.so. Its constructor runs before the program's main(): it applies what SHUNT_PATCH and SHUNT_DIR
// name and starts the control thread (lib/control). With SHUNT_SOCKET=off and neither of the two it reads a few variables and
// does nothing. Whatever fails, the program runs.
#include <sys/auxv.h>

#include <exception>
#include <shunt/shunt.hpp>

#include "preload/environment.hpp"
#include "preload/log.hpp"

namespace shunt::preload {
namespace {

void start_control(const Environment &environment) {
  ControlOptions options{environment.socket, environment.patches, environment.folder, environment.signal};
  const auto started = shunt::start_control(options);
  if (started || options.socket == "off") return;
  say(SHUNT_LOG_ERROR, std::string("no control socket: ") + started.error().message());
  options.socket = "off";
  if (const auto without = shunt::start_control(options); !without) say(SHUNT_LOG_ERROR, without.error().message());
}

[[gnu::constructor]] void start() {
  if (getauxval(AT_SECURE) != 0) return;  // a program with more rights than its user is left alone
  try {
    const Environment environment = read_environment();
    start_log(environment);
    for (const std::string &complaint : environment.complaints) say(SHUNT_LOG_ERROR, complaint);
    start_control(environment);
  } catch (const std::exception &) {
    // No memory at the start of a program: it will notice by itself.
  }
}

}  // namespace
}  // namespace shunt::preload
