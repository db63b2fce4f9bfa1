// trust.hpp: which files may decide what code runs in this process: those of root or of the user that it runs as, that nobody
// else may write. Asked of an open descriptor's status, never of a path.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

namespace shunt::core {

/// Why a file or folder is not to be trusted, as the end of a sentence ("others may write it"); NULL when it is.
inline const char *why_not_trusted(const struct stat &status) {
  if (status.st_uid != 0 && status.st_uid != geteuid()) return "it belongs neither to root nor to the process's user";
  if ((status.st_mode & S_IWOTH) != 0) return "others may write it";
  if ((status.st_mode & S_IWGRP) != 0) return "its group may write it";
  return nullptr;
}

}  // namespace shunt::core
