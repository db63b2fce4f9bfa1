// stacks.hpp: looks on a thread's stack for addresses of code: return addresses, and where a signal handler will return to.
//
// Nothing is unwound. A word from the stack pointer to the end of its mapping counts that is the address of an instruction in
// question, and either a call returns there or the words behind it are what the kernel saves for a signal handler. So dead words
// and data can be taken for a return address: then somebody waits in vain, or is refused. What lies behind the
// stack in the same mapping is looked at too. The kernel copies the words, so that memory that another thread unmaps meanwhile is
// no fault.
//
// Of code that goes away every word counts, from below the stack pointer to the end of the thread's own stack, which must be
// known then: what lies behind it in the same mapping (heap, say) would hold addresses for ever.
//
// Not seen: the stack that a thread left for an alternate signal stack, but for the place where it left it (seen where every word counts);
// stacks of coroutines that no thread runs on.
#pragma once

#include <cstdint>
#include <span>

#include "base/page_vector.hpp"
#include "threads/code_range.hpp"

namespace shunt::core {

/// A thread, as far as it tells which stack is its own.
struct StackOwner {
  std::uintptr_t thread_pointer = 0;
  bool is_first = false;  // the program's first thread: the kernel gave it its stack

  /// The calling thread. Fit for signal handlers.
  static StackOwner self();
  // In a child that another thread forked nobody is on the first thread's stack. Without these, nobody's stack is known there.
  static void before_fork();
  static void after_fork_in_child();
};

class Stacks {
 public:
  /// Which memory there is. False when /proc/self/maps cannot be read.
  bool read();
  /// The end of the readable and writable memory that holds `sp`, 16 MiB further at most. 0: there was none when it was read.
  [[nodiscard]] std::uintptr_t end_of(std::uintptr_t sp) const;

  /// The end of the stack that the kernel or the C library gave this thread, if `sp` lies on it. 0: it does not. The first thread's is
  /// named in the map, and it has no other, though its thread pointer may lie in the same mapping as a coroutine's stack. Above
  /// those of the others the C library has what belongs to the thread: variables, and its own record of it, where the
  /// thread pointer points. That counts as stack here, since the record has addresses too.
  [[nodiscard]] std::uintptr_t own_end(std::uintptr_t sp, const StackOwner &owner) const;
  /// The lowest word in [begin, end) that is an address on that stack: so the stack pointer with which it was left is no lower. 0: none.
  [[nodiscard]] std::uintptr_t lowest_own(std::uintptr_t begin, std::uintptr_t end, const StackOwner &owner,
                                          std::span<std::uintptr_t> buffer) const;

 private:
  struct Area {
    std::uintptr_t begin, end;
    bool is_first_stack;
  };
  [[nodiscard]] const Area *area_at(std::uintptr_t address) const;

  PageVector<char> text_;
  PageVector<Area> areas_;
};

enum class Scan : std::uint8_t { clean, found, failed };

/// Whether [sp, end) holds an address in one of the ranges; `where` is that address. Fit for signal handlers: `buffer` is all the
/// memory it uses.
Scan scan_stack(const CodeRanges &ranges, std::uintptr_t sp, std::uintptr_t end, std::span<std::uintptr_t> buffer,
                std::uintptr_t &where);

}  // namespace shunt::core
