// patches.hpp: the patch files of this test, and copies of them that may be spoiled.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <shunt/shunt.hpp>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

/// The path of a patch that was built for this test.
inline std::string built(const std::string &name) { return std::string(getenv("PATCHES")) + "/" + name + ".so"; }

inline std::string bytes_of(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// A folder that is removed at the end.
class Folder {
 public:
  Folder() {
    std::string path = std::filesystem::temp_directory_path() / "shunt-patch-XXXXXX";
    EXPECT_NE(mkdtemp(path.data()), nullptr);
    path_ = path;
  }
  Folder(const Folder &) = delete;
  Folder &operator=(const Folder &) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }

  /// Writes a file of this name, in place where it is there already; returns its path.
  [[nodiscard]] std::string write(const std::string &name, const std::string &bytes) const {
    const std::string path = path_ / name;
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
    return path;
  }

 private:
  std::filesystem::path path_;
};
