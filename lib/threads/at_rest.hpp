// at_rest.hpp: shunt's own thread, while it waits. It blocks all signals, so it cannot be asked; and need not be: what it runs then is
// code of shunt, which holds no address in a patch. At other times it may be in a patch: what it calls may be redirected.
#pragma once

#include <atomic>

#include "base/syscalls.hpp"

namespace shunt::core {

/// While one lives, the thread that made it is at rest. For one thread of the process.
class AtRest {
 public:
  AtRest() { thread_.store(sys::thread_id()); }
  AtRest(const AtRest &) = delete;
  AtRest &operator=(const AtRest &) = delete;
  ~AtRest() { thread_.store(0); }

  static bool is(int thread) { return thread_.load() == thread; }

 private:
  static inline std::atomic<int> thread_ = 0;
};

}  // namespace shunt::core
