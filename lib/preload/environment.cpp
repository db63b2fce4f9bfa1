#include "preload/environment.hpp"

#include <csignal>
#include <cstdlib>
#include <cstring>

namespace shunt::preload {
namespace {

int signal_number(const std::string &name) {
  const std::string bare = name.rfind("SIG", 0) == 0 ? name.substr(3) : name;
  for (int number = 1; number < NSIG; ++number) {
    const char *abbreviation = sigabbrev_np(number);
    if (abbreviation != nullptr && bare == abbreviation) return number;
  }
  char *end = nullptr;
  const long number = std::strtol(name.c_str(), &end, 10);
  return end != name.c_str() && *end == '\0' && number > 0 && number < NSIG ? static_cast<int>(number) : 0;
}

bool parse_level(const std::string &name, shunt_log_level &level) {
  static constexpr const char *kNames[] = {"debug", "info", "warning", "error"};
  for (int k = 0; k < 4; ++k) {
    if (name != kNames[k]) continue;
    level = static_cast<shunt_log_level>(k);
    return true;
  }
  return false;
}

}  // namespace

Environment read_environment() {
  Environment environment;
  const auto value = [](const char *name) {
    const char *text = secure_getenv(name);
    return std::string(text != nullptr ? text : "");
  };
  const std::string patches = value("SHUNT_PATCH");
  for (std::size_t begin = 0; begin < patches.size();) {
    const std::size_t end = std::min(patches.find(':', begin), patches.size());
    if (end > begin) environment.patches.push_back(patches.substr(begin, end - begin));
    begin = end + 1;
  }
  environment.folder = value("SHUNT_DIR");
  environment.socket = value("SHUNT_SOCKET");
  if (const std::string signal = value("SHUNT_SIGNAL"); !signal.empty()) {
    environment.signal = signal_number(signal);
    if (environment.signal == 0 || environment.signal == SIGKILL || environment.signal == SIGSTOP) {
      environment.complaints.push_back("SHUNT_SIGNAL=" + signal + " names no signal that can be used");
      environment.signal = 0;
    } else if (environment.folder.empty()) {
      environment.complaints.push_back(
          "SHUNT_SIGNAL is set, but without SHUNT_DIR there is nothing to look through again");
      environment.signal = 0;
    }
  }
  if (const std::string log = value("SHUNT_LOG"); !log.empty()) {
    const std::size_t colon = log.find(':');
    environment.logs = parse_level(log.substr(0, colon), environment.log_level);
    if (environment.logs && colon != std::string::npos) environment.log_file = log.substr(colon + 1);
    environment.logs_to_syslog = environment.log_file == "syslog";
    if (!environment.logs)
      environment.complaints.push_back("SHUNT_LOG=" + log +
                                       " is not debug, info, warning or error, then perhaps :FILE or :syslog");
  }
  return environment;
}

}  // namespace shunt::preload
