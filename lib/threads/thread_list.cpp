#include "threads/thread_list.hpp"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/digits.hpp"
#include "base/fd.hpp"
#include "base/syscalls.hpp"
#include "threads/small_file.hpp"

namespace shunt::core {
namespace {

/// How many threads the kernel counts. 0 when it does not say.
std::size_t count_threads() {
  constexpr int kThreads = 20;
  return stat_field("/proc/self/stat", kThreads);
}

bool lives(int id) { return sys::call(SYS_tgkill, sys::call(SYS_getpid), id, 0) == 0 || errno != ESRCH; }

}  // namespace

std::uint64_t now_ns() {
  timespec now = {};
  sys::call(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

ThreadList::Outcome ThreadList::read(std::uint64_t deadline) {
  ids_.clear();
  do {
    const Outcome added = add_pass();
    if (added != Outcome::complete) return added;
    const std::size_t count = count_threads();
    if (count == 0) return Outcome::no_proc;
    sort_out();
    if (ids_.size() >= count) return Outcome::complete;
  } while (now_ns() < deadline);
  return Outcome::too_late;
}

ThreadList::Outcome ThreadList::add_pass() {
  const Fd folder(
      static_cast<int>(sys::call(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
  if (!folder.is_open()) return Outcome::no_proc;
  alignas(8) char entries[4096];
  for (;;) {
    const long got = sys::call(SYS_getdents64, folder.get(), entries, sizeof entries);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Outcome::no_proc;
    if (got == 0) return Outcome::complete;
    // struct linux_dirent64 (getdents64(2)): inode and offset, 8 bytes each, the entry's length, its type, its name.
    for (long at = 0; at + 19 < got;) {
      std::uint16_t length = 0;
      std::memcpy(&length, entries + at + 16, sizeof length);
      std::string_view name(entries + at + 19);
      std::uint64_t id = 0;
      if (length == 0) return Outcome::no_proc;
      at += length;
      if (take_digits(name, 10, id) && !ids_.push_back(static_cast<int>(id))) return Outcome::no_memory;
    }
  }
}

/// Each thread once, and none that has ended.
void ThreadList::sort_out() {
  std::sort(ids_.begin(), ids_.end());
  int *const once = std::unique(ids_.begin(), ids_.end());
  int *const living = std::remove_if(ids_.begin(), once, [](int id) { return !lives(id); });
  ids_.set_size(static_cast<std::size_t>(living - ids_.begin()));
}

}  // namespace shunt::core
