// file_rules.hpp: which files may decide what code runs in this process: those of root or of the user that it runs as, that
// nobody else may write. Asked of an open descriptor, never of a path.
//
// The group counts as somebody else, as it does for sshd, cron and sudo: whether a group has one member only is known to the
// name service, which is not asked from inside a stranger's process; and the kernel shows what an access control list
// lets other users write as a permission of the group (acl(5)).
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
