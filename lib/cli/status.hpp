// status.hpp: shunt status and shunt ps: what is applied, where, by whom; and who has shunt in it.
#pragma once

#include <string>

#include "cli/console.hpp"

namespace shunt::cli {

struct StatusOptions {
  std::string target;
  bool verify = false, only_this = false;
};

/// With `verify`: `no` when a slot holds something else, or when the processes of a family have not the same patches.
Exit run_status(const StatusOptions &options, const Console &console);

/// `no` when there is none.
Exit run_ps(const Console &console);

}  // namespace shunt::cli
