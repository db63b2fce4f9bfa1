// libraries.hpp: the files that a program would be loaded with: itself, and what it needs, found where the dynamic linker
// looks. For `shunt check` of files that nobody runs.
#pragma once

#include <string>
#include <vector>

#include "elf/file.hpp"

namespace shunt::cli {

struct LoadedFile {
  core::ElfFile file;
  bool was_named = false;  // by the user; else some other file needs it
};

struct LibrarySet {
  std::vector<LoadedFile> files;     // those named first, then what they need, each once
  std::vector<std::string> missing;  // names of libraries that were not found
};

/// Folders in the order of the dynamic linker: RPATH or RUNPATH of the file that asks ($ORIGIN is its folder), LD_LIBRARY_PATH,
/// those of /etc/ld.so.conf, the standard ones; and the folder of each file that was named. Only files of the same machine count.
LibrarySet with_needed(std::vector<core::ElfFile> named);

}  // namespace shunt::cli
