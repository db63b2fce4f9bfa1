#include "patch/file_rules.hpp"

#include <cerrno>

namespace shunt::core {

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
