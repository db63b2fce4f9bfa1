#include "cli/libraries.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>

namespace shunt::cli {
namespace {

namespace fs = std::filesystem;
using Folders = std::vector<std::string>;

constexpr std::size_t kMaximumFiles = 2000;

void append_list(Folders &folders, const std::string &list, const std::string &origin) {
  std::istringstream stream(list);
  for (std::string one; std::getline(stream, one, ':');) {
    for (const std::string word : {"${ORIGIN}", "$ORIGIN"})
      if (const std::size_t at = one.find(word); at != std::string::npos) one.replace(at, word.size(), origin);
    if (!one.empty()) folders.push_back(one);
  }
}

/// The folders of ld.so.conf and of the files in ld.so.conf.d, which is what distributions include.
void append_configured(Folders &folders) {
  std::vector<fs::path> files = {"/etc/ld.so.conf"};
  std::error_code ignored;
  for (const auto &entry : fs::directory_iterator("/etc/ld.so.conf.d", ignored))
    if (entry.path().extension() == ".conf") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (const fs::path &file : files) {
    std::ifstream stream(file);
    for (std::string line; std::getline(stream, line);)
      if (!line.empty() && line[0] == '/') folders.push_back(line);
  }
}

const Folders &common_folders() {
  static const Folders folders = [] {
    Folders all;
    if (const char *path = std::getenv("LD_LIBRARY_PATH")) append_list(all, path, ".");
    append_configured(all);
    for (const char *folder : {"/lib", "/usr/lib", "/lib64", "/usr/lib64"}) all.emplace_back(folder);
    return all;
  }();
  return folders;
}

std::string folder_of(const std::string &path) {
  const fs::path folder = fs::path(path).parent_path();
  return folder.empty() ? "." : folder.string();
}

class Finder {
 public:
  explicit Finder(const std::vector<core::ElfFile> &named) {
    for (const core::ElfFile &file : named) named_folders_.push_back(folder_of(file.path));
  }

  [[nodiscard]] std::optional<core::ElfFile> find(const std::string &library, const core::ElfFile &asked_by) const {
    Folders folders;
    if (library.find('/') != std::string::npos) folders.emplace_back();
    append_list(folders, asked_by.run_path, folder_of(asked_by.path));
    for (const Folders *more : {&common_folders(), &named_folders_})
      folders.insert(folders.end(), more->begin(), more->end());
    for (const std::string &folder : folders) {
      const std::string path = (fs::path(folder) / library).string();
      std::error_code ignored;
      if (!fs::is_regular_file(path, ignored)) continue;
      core::Result<core::ElfFile> file = core::ElfFile::open(path);
      if (file && file->machine == asked_by.machine) return std::move(*file);
    }
    return std::nullopt;
  }

 private:
  Folders named_folders_;
};

std::string name_of(const core::ElfFile &file) {
  return file.soname.empty() ? fs::path(file.path).filename().string() : file.soname;
}

}  // namespace

LibrarySet with_needed(std::vector<core::ElfFile> named) {
  const Finder finder(named);
  LibrarySet set;
  std::set<std::string> known;
  for (core::ElfFile &file : named) {
    known.insert(name_of(file));
    set.files.push_back({std::move(file), true});
  }
  for (std::size_t k = 0; k < set.files.size() && set.files.size() < kMaximumFiles; ++k) {
    const std::vector<std::string> needed = set.files[k].file.needed;
    for (const std::string &library : needed) {
      if (!known.insert(library).second) continue;
      std::optional<core::ElfFile> file = finder.find(library, set.files[k].file);
      if (file) {
        set.files.push_back({std::move(*file), false});
      } else {
        set.missing.push_back(library);
      }
    }
  }
  return set;
}

}  // namespace shunt::cli
