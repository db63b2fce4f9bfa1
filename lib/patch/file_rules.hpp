// file_rules.hpp: which files may decide what code runs in this process: those of root or of the user that it runs as, that
// nobody else may write. Asked of an open descriptor, never of a path.
#pragma once

#include <sys/stat.h>

#include <optional>

#include "base/error.hpp"

namespace shunt::core {

/// Why a file or folder is not to be trusted, as the end of a sentence ("others may write it"); NULL when it is.
const char *why_not_trusted(const struct stat &status);

/// Why the file behind the descriptor is no patch that may be taken: not_permitted, or patch_unreadable.
std::optional<Error> check_patch_file(int fd, const char *name);

}  // namespace shunt::core
