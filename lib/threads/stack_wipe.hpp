// stack_wipe.hpp: addresses that lie about below the stack pointer. Whoever stands there next, in a frame with gaps,
// looks as if it held them.
#pragma once

#include <cstdint>

namespace shunt::core {

/// Leaves none of what the functions that were called before this one had there. Looking a symbol up takes some KiB of
/// stack.
[[gnu::noinline]] inline void wipe_stack() {
  volatile std::uintptr_t words[2048];
  for (volatile std::uintptr_t &word : words) word = 0;
}

}  // namespace shunt::core
