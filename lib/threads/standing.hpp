// standing.hpp: where a thread stands, without disturbing it.
//
// /proc/self/task/TID/syscall tells it of a thread that sleeps in the kernel: its program counter and stack pointer outside. Of a
// thread that runs it only says so. The count of its switches tells whether it has run between two looks.
#pragma once

#include <cstdint>

#include "threads/interrupted.hpp"

namespace shunt::core {

struct Standing {
  enum class Doing : std::uint8_t {
    unknown,  // the kernel does not tell
    gone,
    running,
    asleep,  // in a system call, or while it waits for a page
    forking,  // asleep until a child of vfork(), which shares its memory and may be anywhere, runs another program or ends
  };
  Doing doing = Doing::unknown;
  SystemCall call;
  std::uintptr_t pc = 0, sp = 0;
  std::uint64_t switches = 0;
  std::uint64_t blocked = 0;  // signals, bit n - 1 for signal n
};

Standing standing_of(int thread);

/// When a thread was started, in ticks of the kernel's clock: with its id it tells a thread from a later one. 0: the kernel does not tell.
std::uint64_t start_of(int thread);

/// The signals that a thread blocks, bit n - 1 for signal n. False when the kernel does not tell, or the thread has ended.
bool blocked_signals(int thread, std::uint64_t &mask);
inline bool blocks(std::uint64_t mask, int signal) { return (mask >> (signal - 1) & 1) != 0; }

}  // namespace shunt::core
