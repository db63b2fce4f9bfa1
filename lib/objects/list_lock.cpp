#include "objects/list_lock.hpp"

#include <link.h>
#include <pthread.h>

#include <cstdint>
#include <ctime>

#include "base/syscalls.hpp"
#include "objects/loader_watch.hpp"

namespace shunt::core {
namespace {

constinit pthread_mutex_t *the_lock = nullptr;
constinit bool is_held = false;  // for a fork, by the thread that forks

int this_thread() { return static_cast<int>(sys::call(SYS_gettid)); }

struct Area {
  std::uintptr_t point = 0;  // in the dynamic linker
  std::uintptr_t begin = 0, end = 0;
};

/// The dynamic linker's variables.
Area variables() {
  Area area;
  area.point = LoaderWatch::notice_point();
  dl_iterate_phdr(
      [](dl_phdr_info *info, std::size_t, void *to) {
        Area &found = *static_cast<Area *>(to);
        bool is_it = false;
        for (int k = 0; k < info->dlpi_phnum; ++k) {
          const ElfW(Phdr) &header = info->dlpi_phdr[k];
          if (header.p_type != PT_LOAD) continue;
          const std::uintptr_t begin = info->dlpi_addr + header.p_vaddr;
          is_it = is_it || (found.point >= begin && found.point - begin < header.p_memsz);
          if ((header.p_flags & PF_W) == 0) continue;
          found.begin = (begin + 7) / 8 * 8;
          found.end = begin + header.p_memsz;
        }
        return is_it ? 1 : 0;
      },
      &area);
  return area;
}

struct Held {
  const Area area;
  const int thread = this_thread();
  static constexpr std::size_t kMost = 8;
  pthread_mutex_t *locks[kMost] = {};
  std::size_t count = 0;

  explicit Held(const Area &in) : area(in) {}
  void look() {
    count = 0;
    for (std::uintptr_t at = area.begin; at + sizeof(pthread_mutex_t) <= area.end && count < kMost; at += 8) {
      auto *const lock = reinterpret_cast<pthread_mutex_t *>(at);
      const auto &data = lock->__data;
      if (__atomic_load_n(&data.__owner, __ATOMIC_RELAXED) == thread &&
          __atomic_load_n(&data.__lock, __ATOMIC_RELAXED) != 0 && data.__count > 0 &&
          data.__kind == PTHREAD_MUTEX_RECURSIVE_NP)
        locks[count++] = lock;
    }
  }
  [[nodiscard]] bool has(const pthread_mutex_t *lock) const {
    for (std::size_t k = 0; k < count; ++k)
      if (locks[k] == lock) return true;
    return false;
  }
};

}  // namespace

void ListLock::find() {
  const Area area = variables();
  if (area.point == 0 || area.begin == 0) return;
  Held outside(area), inside(area);
  outside.look();
  dl_iterate_phdr(
      [](dl_phdr_info *, std::size_t, void *to) {
        static_cast<Held *>(to)->look();
        return 1;
      },
      &inside);
  pthread_mutex_t *found = nullptr;
  for (std::size_t k = 0; k < inside.count; ++k) {
    if (outside.has(inside.locks[k])) continue;
    if (found != nullptr) return;  // which of them cannot be told
    found = inside.locks[k];
  }
  the_lock = found;
}

/// A callback that never ends must not keep the program from forking.
void ListLock::before_fork() {
  if (the_lock == nullptr) return;
  timespec end{};
  clock_gettime(CLOCK_REALTIME, &end);
  end.tv_sec += 1;
  is_held = pthread_mutex_timedlock(the_lock, &end) == 0;
}

void ListLock::after_fork_in_parent() {
  if (is_held) pthread_mutex_unlock(the_lock);
  is_held = false;
}

/// Where this thread had it before, inside a callback, it has it still; its number is another one here.
void ListLock::after_fork_in_child() {
  if (the_lock == nullptr) return;
  auto &data = the_lock->__data;
  const bool was_mine = is_held && data.__count > 1;
  is_held = false;
  if (was_mine) {
    data.__count -= 1;
    data.__owner = this_thread();
    return;
  }
  data.__lock = data.__owner = 0;
  data.__count = data.__nusers = 0;
}

}  // namespace shunt::core
