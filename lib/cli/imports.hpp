// imports.hpp: shunt imports: what a file or a process imports, and through which slots.
#pragma once

#include <string>
#include <vector>

#include "cli/console.hpp"

namespace shunt::cli {

struct ImportsOptions {
  std::vector<std::string> targets;  // files, or one process
  std::vector<std::string> symbols, callers;
};

Exit run_imports(const ImportsOptions &options, const Console &console);

}  // namespace shunt::cli
