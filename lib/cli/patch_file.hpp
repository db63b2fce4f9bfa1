// patch_file.hpp: the patch as the user named it, opened once: what is looked at here is what the processes get.
#pragma once

#include <string>
#include <vector>

#include "base/fd.hpp"
#include "cli/connection.hpp"
#include "elf/file.hpp"

namespace shunt::cli {

struct PatchFile {
  core::Fd fd;
  std::string path;  // absolute, for messages and the log
  core::ElfFile file;

  /// Throws Failure (usage where it cannot be opened, no where it is no library).
  static PatchFile open(const std::string &path);
};

/// `--symbol` words as the linker's names, NAME or NAME=REPLACEMENT. A C++ name that the patch itself does not export is looked for
/// among what the process imports.
std::vector<std::string> linker_names(const std::vector<std::string> &words, const PatchFile &patch, Connection &root);

}  // namespace shunt::cli
