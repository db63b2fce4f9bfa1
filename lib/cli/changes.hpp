// changes.hpp: shunt apply and shunt revert: one patch in a process and its forked children, all or none of them.
#pragma once

#include <string>
#include <vector>

#include "cli/console.hpp"

namespace shunt::cli {

struct ApplyOptions {
  std::string target, patch, name, provider, reach;
  std::vector<std::string> symbols, callers, not_callers, also;
  bool force_permissions = false, only_this = false, keep = false, dlsym = false;
};

struct RevertOptions {
  std::string target, name;
  bool all = false, only_this = false, keep = false;
  unsigned wait_seconds = 0;  // for patches to be unloaded
};

/// Plans in all processes first; then applies in each; where one says no, what was done in the others is reverted. A family in
/// which a few have the very same patch already (a tool was killed half-way) is completed.
Exit run_apply(const ApplyOptions &options, const Console &console);

/// Reverts wherever the patch is applied. All are reached before anything is changed. Where one says no after that, the others are
/// reverted all the same and stay so: who reverts a patch wants to be rid of it, the file that would be needed to put it back
/// is not here, and over later patches it could not be put back in its place. Then the exit code is 1, it is said which processes
/// still have it, and the same command goes on from there. The code of what was reverted drains; where it still does after
/// wait_seconds, which are waited when they are not 0, the exit code is 1 as well.
Exit run_revert(const RevertOptions &options, const Console &console);

}  // namespace shunt::cli
