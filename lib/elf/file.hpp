// file.hpp: an ELF file of any machine, as data: what it imports and through which slots, what it exports, what it needs. For
// the command line, which looks at files that nobody runs, and at files of other machines; it is read by libelf, which knows
// their classes and byte orders. What runs inside a server reads its own machine's files with file_image.hpp.
//
// As the dynamic linker does, this goes by the dynamic segment. Section headers, which may be missing, are asked only for what is
// nowhere else: the full symbol table and the name of the file with debug information.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "arch/machines.hpp"
#include "base/result.hpp"

namespace shunt::core {

/// A symbol for which the file has slots, or which it does not define.
struct FileImport {
  std::string name;
  std::string version;  // "": none asked for
  std::string library;  // of which the version is asked; "" where there is none
  bool is_weak = false;
  bool is_data = false;     // an object or thread-local storage, as far as the file says
  bool is_defined = false;  // the file also defines it: the slots are for its own definition, if nobody comes first
  std::uint32_t jump_slots = 0, glob_dats = 0, absolutes = 0;

  [[nodiscard]] std::uint32_t slots() const { return jump_slots + glob_dats + absolutes; }
};

/// A symbol that the file defines for others.
struct FileExport {
  std::string name;
  std::string version;
  bool is_default_version = true;
  bool is_weak = false;
  bool is_function = false;
};

struct ElfFile {
  std::string path;
  const arch::Machine *machine = nullptr;  // never NULL
  std::string soname, build_id, debug_link, run_path;
  std::vector<std::string> needed;
  std::vector<FileImport> imports;
  std::vector<FileExport> exports;
  std::vector<std::string> inner_functions;  // not exported: static or hidden; sorted, empty in a stripped file

  /// Reads the file behind `fd`. `path` is for messages, and kept.
  /// Errors: patch_unreadable, patch_malformed, patch_architecture (a machine that is not in arch::kMachines).
  static Result<ElfFile> read(int fd, const std::string &path);
  static Result<ElfFile> open(const std::string &path);

  [[nodiscard]] const FileExport *find_export(const std::string &name) const;
  [[nodiscard]] bool has_inner_function(const std::string &name) const;
};

}  // namespace shunt::core
