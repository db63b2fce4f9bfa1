// support.hpp: the patch of this test, threads that are inside it, and what the process has mapped.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <set>
#include <string>
#include <thread>

#include <shunt/shunt.hpp>

#include "functions.h"

// By the patch's destructor this is counted, and that called, if it is not NULL.
extern "C" int unloaded;
extern "C" void (*at_unload)();

namespace unload {

using std::chrono::milliseconds;
constexpr milliseconds kAtOnce{0}, kPatient{10'000};

inline std::string built(const std::string &name) { return std::string(getenv("PATCHES")) + "/" + name + ".so"; }

inline shunt::Patch load(const std::string &name, const shunt::PatchOptions &options = {}) {
  auto patch = shunt::Patch::load(built(name).c_str(), options);
  if (!patch) ADD_FAILURE() << patch.error().message();
  return patch ? std::move(*patch) : shunt::Patch(nullptr);
}

inline shunt::Patch applied(const std::string &name, const shunt::PatchOptions &options = {}) {
  shunt::Patch patch = load(name, options);
  if (const auto done = patch.apply(); !done) ADD_FAILURE() << done.error().message();
  return patch;
}

/// A pipe that holds threads until it is opened.
class Gate {
 public:
  Gate() { EXPECT_EQ(pipe2(ends_, O_CLOEXEC), 0); }
  Gate(const Gate &) = delete;
  Gate &operator=(const Gate &) = delete;
  ~Gate() {
    for (const int fd : ends_) close(fd);
  }
  [[nodiscard]] int fd() const { return ends_[0]; }
  void open(char byte = 'x') const { EXPECT_EQ(write(ends_[1], &byte, 1), 1); }

 private:
  int ends_[2] = {-1, -1};
};

class Thread {
 public:
  explicit Thread(std::function<int()> work)
      : thread_([this, work = std::move(work)] {
          id_ = static_cast<int>(syscall(SYS_gettid));
          answer_ = work();
        }) {
    while (id_ == 0) sched_yield();
  }
  ~Thread() {
    if (thread_.joinable()) thread_.join();
  }
  [[nodiscard]] int id() const { return id_; }
  /// What the work answered.
  int join() {
    thread_.join();
    return answer_;
  }
  /// Until it sleeps in this system call with `first` as its first argument.
  void wait_until_in(long number, int first) const {
    char expected[64];
    std::snprintf(expected, sizeof expected, "%ld 0x%x ", number, static_cast<unsigned>(first));
    for (std::string text; text.rfind(expected, 0) != 0;) {
      sched_yield();
      std::ifstream file("/proc/self/task/" + std::to_string(id_) + "/syscall");
      std::getline(file, text);
    }
  }

 private:
  std::atomic<int> id_ = 0, answer_ = 0;
  std::thread thread_;
};

/// Mappings of the patch.
inline std::size_t mappings_of(const std::string &name) {
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);)
    count += line.find("/memfd:" + name + ".so") != std::string::npos ? 1 : 0;
  return count;
}

/// What is mapped from files, or could run.
inline std::set<std::string> mappings() {
  std::ifstream maps("/proc/self/maps");
  std::set<std::string> all;
  for (std::string line; std::getline(maps, line);)
    if (line.find(" 00:00 0 ") == std::string::npos || line.find("x") < 30) all.insert(line);
  return all;
}

inline std::set<std::string> descriptors() {
  std::set<std::string> all;
  DIR *const folder = opendir("/proc/self/fd");
  while (const dirent *entry = readdir(folder))
    if (std::to_string(dirfd(folder)) != entry->d_name) all.insert(entry->d_name);
  closedir(folder);
  return all;
}

inline bool is_in_the_way(const shunt_draining &draining, int thread) {
  for (std::size_t k = 0; k < draining.thread_count; ++k)
    if (draining.threads[k].thread == thread) return true;
  return false;
}

}  // namespace unload
