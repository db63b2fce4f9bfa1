// owned_mutex.hpp: a mutex that knows which thread holds it, for code that may run into itself: what shunt calls may be a
// replacement, or a host's log, that calls shunt. Such a thread is told so instead of waiting for itself.
//
// It is whole in the child of a fork: who forks takes it before and gives it back after, on both sides; where the very thread
// that holds it forks, it goes on holding it.
#pragma once

#include <mutex>

#include "base/syscalls.hpp"

namespace shunt::core {

class OwnedMutex {
 public:
  /// Holds the mutex; does not when this very thread already holds it.
  class Guard {
   public:
    explicit Guard(OwnedMutex &mutex) : mutex_(mutex) {
      if (mutex.is_mine()) return;
      mutex.mutex_.lock();
      __atomic_store_n(&mutex.owner_, sys::thread_id(), __ATOMIC_RELAXED);
      holds_ = true;
    }
    Guard(const Guard &) = delete;
    Guard &operator=(const Guard &) = delete;
    ~Guard() { release(); }
    explicit operator bool() const { return holds_; }
    void release() {
      if (!holds_) return;
      __atomic_store_n(&mutex_.owner_, 0, __ATOMIC_RELAXED);
      mutex_.mutex_.unlock();
      holds_ = false;
    }

   private:
    OwnedMutex &mutex_;
    bool holds_ = false;
  };

  [[nodiscard]] bool is_mine() const { return __atomic_load_n(&owner_, __ATOMIC_RELAXED) == sys::thread_id(); }

  void before_fork() {
    forks_while_held_ = is_mine();
    if (!forks_while_held_) mutex_.lock();
  }
  /// On both sides. Answers whether the thread that forked holds the mutex.
  bool after_fork() {
    if (!forks_while_held_)
      mutex_.unlock();
    else
      __atomic_store_n(&owner_, sys::thread_id(), __ATOMIC_RELAXED);  // the child has another id
    return forks_while_held_;
  }

 private:
  std::mutex mutex_;
  int owner_ = 0;  // thread that holds mutex_, 0: none
  bool forks_while_held_ = false;
};

}  // namespace shunt::core
