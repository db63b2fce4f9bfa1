#include "preload/patches.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/fd.hpp"
#include "preload/log.hpp"

namespace shunt::preload {
namespace {

bool is_patch_name(const std::string &name) {
  return name.size() > 3 && name[0] != '.' && name.compare(name.size() - 3, 3, ".so") == 0;
}

/// Only root or the user that the process runs as may decide what code runs in it.
const char *why_not_trusted(const struct stat &status) {
  if (status.st_uid != 0 && status.st_uid != geteuid()) return "it belongs neither to root nor to the process's user";
  if ((status.st_mode & S_IWOTH) != 0) return "others may write it";
  return nullptr;
}

Result<Patch> load(int fd, const std::string &path) {
  shunt_patch *patch = nullptr;
  shunt_error *error = nullptr;
  if (shunt_patch_load_fd(fd, path.c_str(), nullptr, &patch, &error) != SHUNT_OK) return Error(error);
  return Patch(patch);
}

std::optional<Patch> load_and_apply(int fd, const std::string &path) {
  auto patch = load(fd, path);
  if (!patch) {
    say(SHUNT_LOG_ERROR, std::string("not applied: ") + patch.error().message());
    return std::nullopt;
  }
  if (const auto plan = patch->plan()) say(SHUNT_LOG_DEBUG, plan->coverage());
  if (const auto applied = patch->apply(); !applied) {
    say(SHUNT_LOG_ERROR, "not applied: " + path + ": " + applied.error().message());
    return std::nullopt;
  }
  say(SHUNT_LOG_INFO, "applied " + path + ": " + std::to_string(patch->slots()) + " slots");
  return std::move(*patch);
}

}  // namespace

void apply_at_start(const std::string &path) {
  const core::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.is_open()) return say(SHUNT_LOG_ERROR, "not applied: " + path + ": " + strerrordesc_np(errno));
  if (auto patch = load_and_apply(fd.get(), path)) patch->keep();
}

bool Folder::folder_is_safe() const {
  struct stat status {};
  if (stat(path_.c_str(), &status) != 0) {
    say(SHUNT_LOG_ERROR, "SHUNT_DIR=" + path_ + ": " + strerrordesc_np(errno));
    return false;
  }
  if (const char *why = why_not_trusted(status)) {
    say(SHUNT_LOG_ERROR, "SHUNT_DIR=" + path_ + " is not used: " + why);
    return false;
  }
  return true;
}

void Folder::look_at(const std::string &name) {
  const std::lock_guard lock(mutex_);
  if (folder_is_safe()) look_at_locked(name);
}

void Folder::look_at_all() {
  const std::lock_guard lock(mutex_);
  if (!folder_is_safe()) return;
  std::vector<std::string> names;
  if (DIR *folder = opendir(path_.c_str())) {
    while (const dirent *entry = readdir(folder)) names.emplace_back(entry->d_name);
    closedir(folder);
  }
  for (const auto &[name, file] : files_) names.push_back(name);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  for (const std::string &name : names) look_at_locked(name);
}

void Folder::look_at_locked(const std::string &name) {
  if (!is_patch_name(name)) return;
  const std::string path = path_ + "/" + name;
  const core::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  const auto known = files_.find(name);
  if (!fd.is_open()) {
    if (errno != ENOENT) return say(SHUNT_LOG_ERROR, "not applied: " + path + ": " + strerrordesc_np(errno));
    if (known == files_.end()) return;
    if (known->second.patch) {
      if (const auto reverted = known->second.patch->revert(); !reverted) {
        return say(SHUNT_LOG_ERROR, "not reverted: " + path + ": " + reverted.error().message());
      }
      say(SHUNT_LOG_INFO, "reverted " + path);
    }
    files_.erase(known);
    return;
  }
  struct stat status {};
  if (fstat(fd.get(), &status) != 0) return;
  if (known != files_.end() && known->second.device == status.st_dev && known->second.inode == status.st_ino &&
      known->second.changed.tv_sec == status.st_ctim.tv_sec && known->second.changed.tv_nsec == status.st_ctim.tv_nsec)
    return;
  std::optional<Patch> fresh;
  if (const char *why = why_not_trusted(status)) {
    say(SHUNT_LOG_ERROR, "not applied: " + path + ": " + why);
  } else {
    fresh = load_and_apply(fd.get(), path);
  }
  // A file that was refused leaves what its predecessor did in place: half of a change of mind is worse than none.
  if (known != files_.end() && known->second.patch && !fresh) {
    fresh = std::move(known->second.patch);
  } else if (known != files_.end() && known->second.patch) {
    if (const auto reverted = known->second.patch->revert(); !reverted)
      say(SHUNT_LOG_ERROR, "the earlier " + path + " is not reverted: " + reverted.error().message());
  }
  files_.insert_or_assign(name, File{status.st_dev, status.st_ino, status.st_ctim, std::move(fresh)});
}

}  // namespace shunt::preload
