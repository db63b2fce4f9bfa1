// preload.cpp: libshunt-preload.so. Its constructor runs before the program's main(); without SHUNT_PATCH and SHUNT_DIR it
// reads a few variables and does nothing. Whatever fails, the program runs.
#include <exception>

#include "preload/environment.hpp"
#include "preload/log.hpp"
#include "preload/patches.hpp"
#include "preload/watcher.hpp"

namespace shunt::preload {
namespace {

[[gnu::constructor]] void start() {
  try {
    const Environment environment = read_environment();
    start_log(environment);
    for (const std::string &complaint : environment.complaints) say(SHUNT_LOG_ERROR, complaint);
    for (const std::string &patch : environment.patches) apply_at_start(patch);
    if (!environment.folder.empty()) start_watching(environment.folder, environment.signal);
  } catch (const std::exception &) {
    // No memory at the start of a program: it will notice by itself.
  }
}

}  // namespace
}  // namespace shunt::preload
