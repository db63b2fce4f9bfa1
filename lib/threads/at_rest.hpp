// at_rest.hpp: shunt's own thread, while it waits. It blocks all signals, so it cannot be asked; and need not be: what
// it runs then is code of shunt, which holds no address in a patch. At other times it may be in a patch: what it calls
// may be redirected.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/syscalls.hpp"

namespace shunt::core {

/// While one lives, the thread that made it is at rest. For one thread of the process.
class AtRest {
 public:
  AtRest() { thread_.store(number_of(sys::thread_id())); }
  AtRest(const AtRest &) = delete;
  AtRest &operator=(const AtRest &) = delete;
  ~AtRest() { thread_.store(0); }

  static bool is(int thread) { return thread_.load() == number_of(thread); }

 private:
  /// With the process's: the child of a fork has a copy of this, and may one day have a thread of that id.
  static std::uint64_t number_of(int thread) {
    return static_cast<std::uint64_t>(sys::call(SYS_getpid)) << 32 | static_cast<std::uint32_t>(thread);
  }
  static inline std::atomic<std::uint64_t> thread_ = 0;
};

}  // namespace shunt::core
