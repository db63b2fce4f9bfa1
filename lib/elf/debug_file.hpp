// debug_file.hpp: finds the file that has the symbols of an object which was stripped.
//
// Two ways lead there (GDB documentation, "Debugging Information in Separate Files"): by build-id, ROOT/.build-id/ab/cdef….debug;
// and by the object's .gnu_debuglink, a file name and the sum of that file, looked for beside the object, in .debug/ there,
// and under ROOT at the same path. That it is the right file is proved by its build-id, which must be the object's; where one of
// them has none, by the sum, for which all of it is read.
//
// What such a file says decides which code is changed, so it must be one that nobody but root, the process's user or the owner
// of the object's own file may write.
#pragma once

#include <optional>
#include <string>

#include "elf/symbol_file.hpp"

namespace shunt::core {

inline constexpr const char *kDebugRoot = "/usr/lib/debug";

struct DebugFileQuestion {
  std::span<const std::uint8_t> build_id;  // of the object; empty: it has none
  const SymbolFile *object = nullptr;      // its own file, for the debug link; NULL: cannot be used
  const char *root = kDebugRoot;
};

/// The file, with symbols. Otherwise what was tried and why it was not taken, as half a sentence, in `why`.
std::optional<SymbolFile> find_debug_file(const DebugFileQuestion &question, std::string &why);

}  // namespace shunt::core
