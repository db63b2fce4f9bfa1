// names.hpp: C++ names as people write them and as the linker does.
#pragma once

#include <string>
#include <vector>

namespace shunt::cli {

/// "rules::damage(rules::Player const&, int)" of "_ZN5rules6damageERKNS_6PlayerEi"; any other name unchanged.
std::string demangled(const std::string &symbol);

/// Whether a glob means the symbol: written as the linker writes it, demangled, or demangled without the parameters.
bool name_matches(const std::string &glob, const std::string &symbol);

/// The symbols of a list that a name means, in the same three ways. No glob: a name of C++ has `*` in it for pointers.
std::vector<std::string> symbols_named(const std::string &name, const std::vector<std::string> &symbols);

/// NAME[=REPLACEMENT] as linker names. Both are looked for among the functions that the patch exports; a NAME that is not there
/// is taken as it is written. Throws Failure (usage) where a C++ name means several functions, or the replacement none.
struct SymbolPair {
  std::string symbol, replacement;
};
SymbolPair split_symbol(const std::string &word, const std::vector<std::string> &exports, const std::string &patch);

}  // namespace shunt::cli
