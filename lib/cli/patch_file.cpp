#include "cli/patch_file.hpp"

#include <fcntl.h>

#include <cerrno>
#include <filesystem>

#include "cli/names.hpp"
#include "cli/plan_text.hpp"

namespace shunt::cli {
namespace {

/// Linker names have neither blanks, nor colons, nor parentheses; demangled ones nearly always do.
bool is_linker_name(const std::string &name) { return name.find_first_of(" :()<>~,&") == std::string::npos; }

std::string imported_name(const std::string &name, Connection &root) {
  control::Request request;
  request.type = control::Type::imports;
  request.symbols = {"_Z*"};
  const Json answer = root.ask(request);
  std::vector<std::string> symbols;
  for (const Json &object : list_of(answer, "objects"))
    for (const Json &import : list_of(object, "imports")) symbols.push_back(text_of(import, "symbol"));
  const std::vector<std::string> found = symbols_named(name, symbols);
  if (found.size() == 1) return found.front();
  std::string all;
  for (const std::string &symbol : found) all += "\n  " + symbol + "  " + demangled(symbol);
  if (found.empty())
    throw Failure{Exit::no, "unknown_symbol", "no object of " + called(root.process()) + " imports '" + name + "'",
                  "`shunt imports` lists what is imported."};
  throw Failure{Exit::usage, "several_functions", "'" + name + "' means several functions", "Name one of them:" + all};
}

}  // namespace

PatchFile PatchFile::open(const std::string &path) {
  core::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.is_open())
    throw Failure{Exit::usage, "patch_unreadable",
                  "the patch " + path + " cannot be opened: " + core::errno_text(errno), ""};
  core::Result<core::ElfFile> file = core::ElfFile::read(fd.get(), path);
  if (!file) throw Failure{Exit::no, core::code_name(file.error().code), file.error().message, ""};
  std::error_code ignored;
  const std::string full = std::filesystem::absolute(path, ignored).lexically_normal().string();
  return {std::move(fd), full.empty() ? path : full, std::move(*file)};
}

std::vector<std::string> linker_names(const std::vector<std::string> &words, const PatchFile &patch, Connection &root) {
  std::vector<std::string> exports;
  for (const core::FileExport &one : patch.file.exports)
    if (one.is_function) exports.push_back(one.name);
  std::vector<std::string> names;
  for (const std::string &word : words) {
    SymbolPair pair = split_symbol(word, exports, patch.path);
    if (!is_linker_name(pair.symbol)) pair.symbol = imported_name(pair.symbol, root);
    names.push_back(pair.symbol == pair.replacement ? pair.symbol : pair.symbol + "=" + pair.replacement);
  }
  return names;
}

}  // namespace shunt::cli
