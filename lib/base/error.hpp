// error.hpp: what went wrong, as a value. Two forms, because of where they are made:
//
//   Problem  plain data with fixed-size text. Made while the loader's lock is held, where nothing may be allocated
//            (a replaced malloc may wait for that very lock).
//   Error    what the public functions hand out: the same facts and a sentence that a person can act on.
#pragma once

#include <cstdint>
#include <string>

#include <shunt/shunt.h>

namespace shunt::core {

enum class Code : int {
  ok = SHUNT_OK,
#define SHUNT_ERROR(name, number, summary) name = number,
#include <shunt/errors.def>
#undef SHUNT_ERROR
};

const char *code_name(Code code);
const char *code_text(Code code);

struct Error {
  Code code = Code::ok;
  std::string message = {};
  std::string object = {};
  std::string symbol = {};
  std::uint64_t address = 0;
  int sys_errno = 0;
};

/// Makes an error; the message is formatted as printf does.
[[gnu::format(printf, 2, 3)]] Error make_error(Code code, const char *format, ...);

/// What could not be done with a file, a folder or a socket's path, and the errno that said so: "fix.so cannot be opened: No such
/// file or directory (ENOENT)".
Error file_error(Code code, const std::string &path, const char *what, int number);

/// "Permission denied (EACCES)": thread-safe, never NULL.
std::string errno_text(int number);

struct Problem {
  Code code = Code::ok;
  int sys_errno = 0;
  std::uint64_t address = 0;
  const char *object = "";  // interned or static: outlives the problem
  const char *symbol = "";
  char message[400] = {};

  explicit operator bool() const { return code != Code::ok; }

  /// Fills in the first problem only: what follows from it is not worth telling.
  [[gnu::format(printf, 3, 4)]] void set(Code what, const char *format, ...);
  [[nodiscard]] Error to_error() const;
};

}  // namespace shunt::core
