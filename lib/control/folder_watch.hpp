// folder_watch.hpp: tells the folder what comes into it and leaves it (inotify). Made anew when the application closed it.
#pragma once

#include <optional>
#include <string>

#include "base/guarded_fd.hpp"
#include "control/folder.hpp"

namespace shunt::control {

class FolderWatch {
 public:
  explicit FolderWatch(std::string path) : folder_(std::move(path)) {}

  [[nodiscard]] Folder &folder() { return folder_; }
  [[nodiscard]] int fd() const { return inotify_.fd; }
  /// Begins to watch. The folder is not looked through. False, with errno, when it cannot be watched.
  bool start();
  /// All anonymous descriptors have one inode, so what the kernel says of this one is asked as well: what it watches.
  [[nodiscard]] bool is_ours() const;
  /// What came since.
  void read_events();
  /// In the child of a fork: it is the parent's.
  void close();

 private:
  [[nodiscard]] std::string watched() const;

  Folder folder_;
  core::GuardedFd inotify_;
  std::string watched_;
};

}  // namespace shunt::control
