// check.hpp: shunt check: what a patch would reach, in files or in a process, without changing anything.
#pragma once

#include <string>
#include <vector>

#include "cli/console.hpp"

namespace shunt::cli {

struct CheckOptions {
  std::string patch;
  std::vector<std::string> targets;  // files, or one process; none: only the patch itself is looked at
  std::vector<std::string> symbols, callers, not_callers, also;
  std::string provider, reach;
  bool dlsym = false;
};

/// `no` when a function is not reached, a call in a named file goes past it, or the patch could not be loaded.
Exit run_check(const CheckOptions &options, const Console &console);

}  // namespace shunt::cli
