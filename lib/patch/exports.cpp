#include "patch/exports.hpp"

#include <algorithm>

#include "elf/symbols.hpp"

namespace shunt::core {
namespace {

/// A function that the dynamic linker would find in the file. Linkers put _init and _fini there, which are no functions of the
/// patch's author.
bool is_exported_function(const Image &file, const Elf64_Sym &symbol) {
  const unsigned type = symbol_type(symbol), binding = symbol_binding(symbol),
                 visibility = ELF64_ST_VISIBILITY(symbol.st_other);
  if (!is_defined(symbol) || (type != STT_FUNC && type != STT_GNU_IFUNC)) return false;
  if (visibility == STV_HIDDEN || visibility == STV_INTERNAL) return false;
  if (binding != STB_GLOBAL && binding != STB_WEAK) return false;
  const std::string_view name = file.string(symbol.st_name);
  return !name.empty() && name != "_init" && name != "_fini";
}

}  // namespace

Result<std::vector<Replacement>> choose_replacements(const Image &file, const char *name,
                                                     const std::vector<std::string> &wanted) {
  std::vector<std::string> strong, weak;
  for (std::uint32_t k = 1, count = symbol_count(file); k < count; ++k) {
    const Elf64_Sym &symbol = file.symbol(k);
    if (!is_exported_function(file, symbol)) continue;
    auto &list = symbol_binding(symbol) == STB_WEAK ? weak : strong;
    list.emplace_back(file.string(symbol.st_name));
  }
  std::vector<Replacement> chosen;
  for (const std::string &one : wanted) {
    const std::size_t equals = one.find('=');
    Replacement replacement{one.substr(0, equals), equals == std::string::npos ? one : one.substr(equals + 1)};
    const auto exports = [&](const std::vector<std::string> &list) {
      return std::find(list.begin(), list.end(), replacement.replacement) != list.end();
    };
    if (!exports(strong) && !exports(weak)) {
      Error error =
          make_error(Code::unknown_symbol, "%s exports no function '%s'", name, replacement.replacement.c_str());
      error.object = name;
      error.symbol = replacement.replacement;
      return error;
    }
    chosen.push_back(std::move(replacement));
  }
  if (wanted.empty())
    for (const std::string &symbol : strong) chosen.push_back({symbol, symbol});
  if (chosen.empty()) {
    Error error =
        make_error(Code::patch_no_exports, "%s exports no function%s", name,
                   weak.empty() ? "" : " but weak ones (inline functions, templates), which are taken only by name");
    error.object = name;
    return error;
  }
  return chosen;
}

std::vector<std::string> undefined_symbols(const Image &file) {
  std::vector<std::string> undefined;
  // Imports come first in the symbol table and in no hash table's chains, so count by the table as a whole.
  for (std::uint32_t k = 1, count = std::max(symbol_count(file), std::uint32_t{1}); k < count; ++k) {
    const Elf64_Sym &symbol = file.symbol(k);
    const char *name = file.string(symbol.st_name);
    if (!is_defined(symbol) && symbol_binding(symbol) == STB_GLOBAL && *name != '\0') undefined.emplace_back(name);
  }
  return undefined;
}

}  // namespace shunt::core
