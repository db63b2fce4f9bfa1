#include "cli/names.hpp"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "base/glob.hpp"
#include "cli/console.hpp"

namespace shunt::cli {
namespace {

/// Without the parameters and what follows them: from the last `(` that opens at the end of the name. "operator()" and
/// "(anonymous namespace)" have parentheses of their own.
std::string without_parameters(const std::string &name) {
  const std::size_t end = name.rfind(')');
  if (end == std::string::npos) return name;
  int depth = 0;
  for (std::size_t at = end + 1; at-- > 0;) {
    if (name[at] == ')') ++depth;
    if (name[at] == '(' && --depth == 0) return at > 0 ? name.substr(0, at) : name;
  }
  return name;
}

}  // namespace

std::string demangled(const std::string &symbol) {
  if (symbol.rfind("_Z", 0) != 0) return symbol;
  int status = 0;
  const std::unique_ptr<char, void (*)(void *)> name(abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status),
                                                     std::free);
  return status == 0 && name ? name.get() : symbol;
}

bool name_matches(const std::string &glob, const std::string &symbol) {
  if (core::glob_matches(glob.c_str(), symbol.c_str())) return true;
  const std::string name = demangled(symbol);
  if (name == symbol) return false;
  return core::glob_matches(glob.c_str(), name.c_str()) ||
         core::glob_matches(glob.c_str(), without_parameters(name).c_str());
}

std::vector<std::string> symbols_named(const std::string &name, const std::vector<std::string> &symbols) {
  std::vector<std::string> found;
  for (const std::string &symbol : symbols) {
    const std::string full = demangled(symbol);
    const bool is_meant = symbol == name || full == name || (full != symbol && without_parameters(full) == name);
    if (is_meant && std::find(found.begin(), found.end(), symbol) == found.end()) found.push_back(symbol);
  }
  return found;
}

SymbolPair split_symbol(const std::string &word, const std::vector<std::string> &exports, const std::string &patch) {
  const auto one_of = [&](const std::string &name) {
    std::vector<std::string> found = symbols_named(name, exports);
    if (found.size() <= 1) return found.empty() ? std::string() : found.front();
    std::string all;
    for (const std::string &symbol : found) all += "\n  " + symbol + "  " + demangled(symbol);
    throw Failure{Exit::usage, "several_functions", "'" + name + "' means several functions of " + patch,
                  "Name one of them:" + all};
  };
  // A name of C++ may have a `=` of its own (operator==), so try it whole first.
  if (const std::string symbol = one_of(word); !symbol.empty()) return {symbol, symbol};
  const std::size_t equals = word.rfind('=');
  const std::string name = word.substr(0, equals),
                    replacement = equals == std::string::npos ? word : word.substr(equals + 1);
  const std::string exported = one_of(replacement);
  if (exported.empty())
    throw Failure{Exit::usage, "unknown_symbol", patch + " exports no function '" + replacement + "'",
                  "`shunt check " + patch + "` lists what it exports."};
  const std::string symbol = one_of(name);
  return {symbol.empty() ? name : symbol, exported};
}

}  // namespace shunt::cli
