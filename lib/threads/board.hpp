// board.hpp: what the handler of a question sees, and what it answers. There is one board in the process, and it
// outlives every question, since a thread may be late.
//
// Who asks writes a record for each thread and sends it the signal with the record's number and that of the question.
// The handler first makes good what the signal did to a system call (interrupted.hpp), late or not. Then it looks at
// its own thread, by whichever manner the question has, and answers in the record.
#pragma once

#include <signal.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "threads/code_range.hpp"
#include "threads/interrupted.hpp"
#include "threads/stacks.hpp"

namespace shunt::core {

/// How strictly it is asked.
enum class Manner : std::uint8_t {
  is_outside,  // of code that stays: no thread is in it nor will return into it
  holds_nothing,  // of code that goes away: no thread has so much as an address in it, in a register or anywhere on its stack
};

struct AskedThread {
  enum State : std::uint32_t { free_for_use, asked, answering, passed, was_moved, in_the_way };
  std::atomic<std::uint32_t> state;
  // Written by who asks: where the thread was seen to sleep.
  SystemCall seen;
  std::uintptr_t seen_pc, seen_sp;
  // Written by the handler.
  std::uintptr_t at;
  std::uint64_t held_ns;
  const char *why;
  // On no stack that the kernel or the C library gave it, or on one that was not there when the memory was looked at:
  // then where.
  std::uintptr_t foreign_sp;  // 0: it is on its own
  StackOwner owner;
  std::uintptr_t buffer[512];
};

struct Board {
  static constexpr std::size_t kRecords = 64;  // so many are asked at once
  std::atomic<std::uint32_t> generation;       // of the question that is open; odd, or nobody asks
  std::atomic<std::uint32_t> inside;           // handlers that look at this
  std::atomic<std::uint32_t> answers;          // signals that were handled, late ones too
  Manner manner;
  const CodeRanges *ranges;
  const Stacks *stacks;
  AskedThread records[kRecords];

  /// NULL before make().
  static Board *the();
  /// False when there is no memory.
  static bool make();
  /// The signal's value for a record.
  [[nodiscard]] void *value_of(std::size_t record) const;
};

/// The handler of the signal.
void on_question(int signal, siginfo_t *info, void *context);

constexpr const char *kReturnsThere = "will return into the code that changes, or is in a signal handler that will";
constexpr const char *kStackUnknown = "has a stack that cannot be read";
constexpr const char *kStandsThere = "stands where it cannot be moved from";
constexpr const char *kIsInside = "is in it";
constexpr const char *kHasAddress = "has an address in it in a register";
constexpr const char *kHasAddressOnStack = "will return into it, or has an address in it on its stack";
constexpr const char *kIsCoroutine = "runs on a stack of its own making (a coroutine)";

}  // namespace shunt::core
