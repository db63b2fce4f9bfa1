// exports.hpp: which functions of a patch file replace which functions.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "elf/image.hpp"

namespace shunt::core {

struct Replacement {
  std::string symbol;       // of the function to be replaced
  std::string replacement;  // exported by the patch
};

/// `wanted`: NAME or NAME=REPLACEMENT; empty: every strong function that the file exports. `name` is for messages.
/// Errors: patch_no_exports; unknown_symbol for a wanted name that the patch does not export as a function.
Result<std::vector<Replacement>> choose_replacements(const Image &file, const char *name,
                                                     const std::vector<std::string> &wanted);

/// The strong symbols that the file needs and does not define.
std::vector<std::string> undefined_symbols(const Image &file);

}  // namespace shunt::core
