// api.cpp: the part of shunt.h that is about the control socket.
#include <cstdlib>

#include "api/calls.hpp"
#include "api/functions.hpp"
#include "control/control.hpp"

namespace shunt::api {

shunt_code control_start(const shunt_control_options *given, shunt_error **error) {
  return guarded(error, [&] {
    shunt_control_options read;
    if (!read_options(given, read)) return bad_options(error);
    control::Options options;
    const char *const socket = read.socket != nullptr ? read.socket : secure_getenv("SHUNT_SOCKET");
    if (socket != nullptr) options.socket = socket;
    options.has_socket = options.socket != "off";
    options.patches = strings(read.patches);
    if (read.folder != nullptr) options.folder = read.folder;
    options.signal = read.signal;
    if (options.signal != 0 && options.folder.empty())
      return fail(error, core::make_error(core::Code::invalid_argument,
                                          "a signal is named, but no folder to be looked through"));
    const auto started = control::start(options);
    return started ? SHUNT_OK : fail(error, started.error());
  });
}

const char *control_path(void) { return control::path(); }

}  // namespace shunt::api
