#include "patch/file_rules.hpp"

#include <unistd.h>

#include <cerrno>

namespace shunt::core {

const char *why_not_trusted(const struct stat &status) {
  if (status.st_uid != 0 && status.st_uid != geteuid()) return "it belongs neither to root nor to the process's user";
  if ((status.st_mode & S_IWOTH) != 0) return "others may write it";
  if ((status.st_mode & S_IWGRP) != 0) return "its group may write it";
  return nullptr;
}

std::optional<Error> check_patch_file(int fd, const char *name) {
  struct stat status {};
  if (fstat(fd, &status) != 0) return file_error(Code::patch_unreadable, name, "cannot be examined", errno);
  std::optional<Error> refused;
  if (!S_ISREG(status.st_mode))
    refused = make_error(Code::patch_unreadable, "%s is not a regular file", name);
  else if (const char *why = why_not_trusted(status))
    refused = make_error(Code::not_permitted, "%s: %s", name, why);
  if (refused) refused->object = name;
  return refused;
}

}  // namespace shunt::core
