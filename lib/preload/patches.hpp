// patches.hpp: the patches that the shim applied, by the file that they came from.
#pragma once

#include <sys/stat.h>

#include <map>
#include <mutex>
#include <optional>
#include <string>

#include <shunt/shunt.hpp>

namespace shunt::preload {

/// Loads and applies the file, for the life of the process; what goes wrong is logged and the server runs on.
void apply_at_start(const std::string &path);

/// A directory whose *.so files are applied while they are there. A file counts when it was renamed into it (or was there at
/// the start): one that is being written is not a patch yet. A file that takes the place of another is applied before the
/// other is reverted. All functions may be called from any thread.
class Folder {
 public:
  explicit Folder(std::string path) : path_(std::move(path)) {}

  [[nodiscard]] const std::string &path() const { return path_; }
  /// Looks at the one file of this name.
  void look_at(const std::string &name);
  /// Looks at all files, in the order of their names, and at those that are gone.
  void look_at_all();

  // Around fork(), so that the child finds the state whole.
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  struct File {
    dev_t device = 0;
    ino_t inode = 0;
    timespec changed = {};
    std::optional<Patch> patch;  // none: it was refused, and is not tried again before it changes
  };
  void look_at_locked(const std::string &name);
  [[nodiscard]] bool folder_is_safe() const;

  const std::string path_;
  std::mutex mutex_;
  std::map<std::string, File> files_;
};

}  // namespace shunt::preload
