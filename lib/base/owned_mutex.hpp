// owned_mutex.hpp: a mutex that knows which thread holds it, for code that may run into itself: what shunt calls may be a
// replacement, or a host's log, that calls shunt. Such a thread is told so instead of waiting for itself.
//
// It is whole in the child of a fork: who forks takes it before and gives it back after, on both sides; where the very thread
// that holds it forks, it goes on holding it. A holder that runs code of others, which may never come back, says so (Away): it is
// waited for a moment, and then passed by. It cannot come back while somebody forks, and the child gets the mutex anew.
#pragma once

#include <pthread.h>

#include <cstdint>
#include <ctime>
#include <mutex>
#include <new>

namespace shunt::core {

class OwnedMutex {
 public:
  /// Holds the mutex; does not when this very thread already holds it.
  class Guard {
   public:
    explicit Guard(OwnedMutex &mutex) : mutex_(mutex) {
      if (mutex.is_mine()) return;
      mutex.mutex_.lock();
      take();
    }
    /// Does not hold it either when that takes longer.
    Guard(OwnedMutex &mutex, std::time_t seconds) : mutex_(mutex) {
      if (!mutex.is_mine() && mutex.is_locked_within(seconds)) take();
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
    void take() {
      __atomic_store_n(&mutex_.owner_, this_thread(), __ATOMIC_RELAXED);
      holds_ = true;
    }
    OwnedMutex &mutex_;
    bool holds_ = false;
  };

  /// For the thread that holds the mutex: while this lives, it runs code of others and changes nothing that the mutex guards.
  class Away {
   public:
    explicit Away(OwnedMutex &mutex) : mutex_(mutex) { mutex.set_away(true); }
    Away(const Away &) = delete;
    Away &operator=(const Away &) = delete;
    ~Away() { mutex_.set_away(false); }

   private:
    OwnedMutex &mutex_;
  };

  [[nodiscard]] bool is_mine() const { return __atomic_load_n(&owner_, __ATOMIC_RELAXED) == this_thread(); }

  void before_fork() {
    if (is_mine()) {
      forks_while_held_ = true;
      return;
    }
    for (;;) {
      away_mutex_.lock();
      if (is_away_ && is_away_long_) {
        is_passed_by_ = true;  // away_mutex_ stays locked until after the fork
        return;
      }
      away_mutex_.unlock();
      if (is_locked_within(kPatienceSeconds)) return;
      const std::lock_guard lock(away_mutex_);
      is_away_long_ = is_away_;
    }
  }

  /// These answer whether the thread that forked holds the mutex.
  bool after_fork_in_parent() { return after_fork(false); }
  bool after_fork_in_child() { return after_fork(true); }

 private:
  /// Never 0, the same in the child of a fork, and no system call.
  static std::uintptr_t this_thread() { return pthread_self(); }

  static constexpr std::time_t kPatienceSeconds = 1;  // loading a patch takes milliseconds

  void set_away(bool is_away) {
    const std::lock_guard lock(away_mutex_);
    is_away_ = is_away;
    is_away_long_ = false;
  }

  bool is_locked_within(std::time_t seconds) {
    timespec end{};
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += seconds;
    return pthread_mutex_timedlock(mutex_.native_handle(), &end) == 0;
  }

  bool after_fork(bool is_child) {
    if (forks_while_held_) {
      forks_while_held_ = false;
      return true;
    }
    if (!is_passed_by_) {
      mutex_.unlock();
      return false;
    }
    is_passed_by_ = false;
    if (is_child) {  // the holder is not there
      new (&mutex_) std::mutex;
      __atomic_store_n(&owner_, 0, __ATOMIC_RELAXED);
      is_away_ = is_away_long_ = false;
    }
    away_mutex_.unlock();
    return false;
  }

  std::mutex mutex_;
  std::uintptr_t owner_ = 0;       // thread that holds mutex_, 0: none
  bool forks_while_held_ = false;  // written by the holder alone

  std::mutex away_mutex_;  // guards these
  bool is_away_ = false;
  bool is_away_long_ = false;  // a fork has waited for it already
  bool is_passed_by_ = false;
};

}  // namespace shunt::core
