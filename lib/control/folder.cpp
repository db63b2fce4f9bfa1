#include "control/folder.hpp"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/fd.hpp"
#include "base/log.hpp"
#include "control/lock.hpp"
#include "patch/file_rules.hpp"

namespace shunt::control {
namespace {

using core::Error;
using core::Fd;
using core::FileFacts;
using core::How;
using core::log;
using core::Patch;
using core::Registry;
using core::Who;

bool is_patch_name(const std::string &name) {
  return name.size() > 3 && name[0] != '.' && name.compare(name.size() - 3, 3, ".so") == 0;
}

void tell_refused(const std::string &path, const Who &who, const Error &error) {
  FileFacts facts;
  facts.file = path;
  Registry::instance().tell_refused(facts, who, error);
}

/// A plan has a line for each thing that it says; so has the log.
void tell_coverage(const Patch &patch) {
  const auto plan = patch.plan();
  if (!plan) return;
  const std::string coverage = (*plan)->coverage();
  for (std::size_t begin = 0; begin < coverage.size();) {
    const std::size_t end = coverage.find('\n', begin);
    log(SHUNT_LOG_DEBUG, "%s", coverage.substr(begin, end - begin).c_str());
    begin = end == std::string::npos ? end : end + 1;
  }
}

core::Result<std::unique_ptr<Patch>> load(int fd, const std::string &path) {
  const core::OwnedMutex::Away away(control_mutex());
  return Patch::load(fd, path.c_str(), {});
}

/// The log tells what goes wrong. A patch's destructors may run, like its constructors.
bool revert(Patch &patch, const Who &who) {
  const core::OwnedMutex::Away away(control_mutex());
  return static_cast<bool>(Registry::instance().revert(patch, who, {}));
}

/// NULL when it was refused, which is logged.
std::shared_ptr<Patch> load_and_apply(int fd, const std::string &path, const Who &who) {
  auto loaded = load(fd, path);
  if (!loaded) {
    tell_refused(path, who, loaded.error());
    return nullptr;
  }
  std::shared_ptr<Patch> patch(std::move(*loaded));
  tell_coverage(*patch);
  if (Registry::instance().apply(patch, who, "")) return patch;
  Registry::instance().let_go(*patch);
  return nullptr;
}

}  // namespace

void apply_at_start(const std::string &path) {
  const Who who = Who::self(How::at_start);
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.is_open())
    load_and_apply(fd.get(), path, who);
  else
    tell_refused(path, who, core::file_error(core::Code::patch_unreadable, path, "cannot be opened", errno));
}

Who Folder::by_folder() const {
  Who who = Who::self(How::folder);
  who.may_be_inherited = is_start_;
  return who;
}

bool Folder::folder_is_safe() const {
  struct stat status {};
  if (stat(path_.c_str(), &status) != 0) {
    log(SHUNT_LOG_ERROR, "SHUNT_DIR=%s: %s", path_.c_str(), core::errno_text(errno).c_str());
    return false;
  }
  if (const char *why = core::why_not_trusted(status)) {
    log(SHUNT_LOG_ERROR, "SHUNT_DIR=%s is not used: %s", path_.c_str(), why);
    return false;
  }
  return true;
}

void Folder::look_at(const std::string &name) {
  if (folder_is_safe()) look_at_file(name);
}

void Folder::look_at_all() {
  if (!folder_is_safe()) return;
  std::vector<std::string> names;
  if (DIR *folder = opendir(path_.c_str())) {
    while (const dirent *entry = readdir(folder)) names.emplace_back(entry->d_name);
    closedir(folder);
  }
  for (const auto &[name, file] : files_) names.push_back(name);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  for (const std::string &name : names) look_at_file(name);
  is_start_ = false;
}

void Folder::look_at_file(const std::string &name) {
  if (!is_patch_name(name)) return;
  const std::string path = path_ + "/" + name;
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  const auto known = files_.find(name);
  if (!fd.is_open()) {
    if (errno == ENOENT) {
      if (known != files_.end()) forget(known);
    } else {
      tell_refused(path, by_folder(), core::file_error(core::Code::patch_unreadable, path, "cannot be opened", errno));
    }
    return;
  }
  struct stat status {};
  if (fstat(fd.get(), &status) != 0) return;
  if (known != files_.end() && known->second.device == status.st_dev && known->second.inode == status.st_ino &&
      known->second.changed.tv_sec == status.st_ctim.tv_sec && known->second.changed.tv_nsec == status.st_ctim.tv_nsec)
    return;
  std::shared_ptr<Patch> fresh;
  if (const auto refused = core::check_patch_file(fd.get(), path.c_str()))
    tell_refused(path, by_folder(), *refused);
  else
    fresh = load_and_apply(fd.get(), path, by_folder());
  // A file that was refused leaves what its predecessor did in place: half of a change of mind is worse than none.
  if (known != files_.end() && known->second.patch != nullptr) {
    if (fresh == nullptr)
      fresh = std::move(known->second.patch);
    else
      revert(*known->second.patch, by_folder());
  }
  files_.insert_or_assign(name, File{status.st_dev, status.st_ino, status.st_ctim, std::move(fresh)});
}

/// The file is gone. What somebody else reverted meanwhile is done already.
void Folder::forget(std::map<std::string, File>::iterator known) {
  const std::shared_ptr<Patch> patch = known->second.patch;
  if (patch != nullptr) {
    if (!revert(*patch, by_folder()) && patch->change() != nullptr)
      return;  // the log has told; it is tried again when the folder is looked through
  }
  files_.erase(known);
}

}  // namespace shunt::control
