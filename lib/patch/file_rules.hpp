// file_rules.hpp: which files may be taken as patches.
#pragma once

#include <optional>

#include "base/error.hpp"
#include "base/trust.hpp"

namespace shunt::core {

/// Why the file behind the descriptor is no patch that may be taken: not_permitted, or patch_unreadable.
std::optional<Error> check_patch_file(int fd, const char *name);

}  // namespace shunt::core
