// folder.hpp: a directory whose *.so files are applied while they are there, and the patches that are applied at the start.
#pragma once

#include <sys/stat.h>

#include <map>
#include <memory>
#include <string>

#include "patch/registry.hpp"

namespace shunt::control {

/// Loads and applies the file, for the life of the process or until somebody reverts it; what goes wrong is logged.
void apply_at_start(const std::string &path);

/// A file counts when it was renamed into the folder (or was there at the start): one that is being written is not a patch yet.
/// A file that takes the place of another is applied before the other is reverted. What was applied from here and reverted by
/// somebody else stays so until its file changes. Used by one thread at a time, see control.cpp.
class Folder {
 public:
  explicit Folder(std::string path) : path_(std::move(path)) {}

  [[nodiscard]] const std::string &path() const { return path_; }
  /// Looks at the one file of this name.
  void look_at(const std::string &name);
  /// Looks at all files, in the order of their names, and at those that are gone.
  void look_at_all();

 private:
  struct File {
    dev_t device = 0;
    ino_t inode = 0;
    timespec changed = {};
    std::shared_ptr<core::Patch> patch;  // NULL: it was refused, and is not tried again before it changes
  };
  void look_at_file(const std::string &name);
  void forget(std::map<std::string, File>::iterator known);
  [[nodiscard]] bool folder_is_safe() const;

  const std::string path_;
  [[nodiscard]] core::Who by_folder() const;

  std::map<std::string, File> files_;
  bool is_start_ = true;  // the first look, in a program that may only have inherited SHUNT_DIR
};

}  // namespace shunt::control
