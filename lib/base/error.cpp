#include "base/error.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace shunt::core {

const char *code_name(Code code) {
  switch (code) {
    case Code::ok:
      return "ok";
#define SHUNT_ERROR(name, number, summary) \
  case Code::name:                         \
    return #name;
#include <shunt/errors.def>
#undef SHUNT_ERROR
  }
  return "unknown_code";
}

const char *code_text(Code code) {
  switch (code) {
    case Code::ok:
      return "done";
#define SHUNT_ERROR(name, number, summary) \
  case Code::name:                         \
    return summary;
#include <shunt/errors.def>
#undef SHUNT_ERROR
  }
  return "unknown_code";
}

std::string errno_text(int number) {
  const char *text = strerrordesc_np(number);
  const char *name = strerrorname_np(number);
  return std::string(text != nullptr ? text : "unknown error") + " (" + (name != nullptr ? name : "?") + ")";
}

Error make_error(Code code, const char *format, ...) {
  char text[2048];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  Error error;
  error.code = code;
  error.message = text;
  return error;
}

Error file_error(Code code, const std::string &path, const char *what, int number) {
  Error error = make_error(code, "%s %s: %s", path.c_str(), what, errno_text(number).c_str());
  error.object = path;
  error.sys_errno = number;
  return error;
}

void Problem::set(Code what, const char *format, ...) {
  if (code != Code::ok) return;
  code = what;
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
}

Error Problem::to_error() const {
  Error error;
  error.code = code;
  error.message = message;
  error.object = object;
  error.symbol = symbol;
  error.address = address;
  error.sys_errno = sys_errno;
  if (sys_errno != 0) error.message += ": " + errno_text(sys_errno);
  return error;
}

}  // namespace shunt::core
