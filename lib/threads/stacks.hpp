// stacks.hpp: looks on a thread's stack for addresses of code: return addresses, and where a signal handler will return to.
//
// Nothing is unwound. A word from the stack pointer to the end of its mapping counts that is the address of an instruction in
// question, and either a call returns there or the words behind it are what the kernel saves for a signal handler. So dead words
// and data can be taken for a return address: then somebody waits in vain, or is refused. What lies behind the
// stack in the same mapping is looked at too. The kernel copies the words, so that memory that another thread unmaps meanwhile is
// no fault.
//
// Not seen: the stack that a thread left for an alternate signal stack, but for the place where it left it; stacks of coroutines that
// no thread runs on.
#pragma once

#include <cstdint>
#include <span>

#include "base/page_vector.hpp"
#include "threads/code_range.hpp"

namespace shunt::core {

class Stacks {
 public:
  /// Which memory there is. False when /proc/self/maps cannot be read.
  bool read();
  /// The end of the readable and writable memory that holds `sp`, 16 MiB further at most. 0: there was none when it was read.
  [[nodiscard]] std::uintptr_t end_of(std::uintptr_t sp) const;

 private:
  struct Area {
    std::uintptr_t begin, end;
  };
  PageVector<char> text_;
  PageVector<Area> areas_;
};

enum class Scan : std::uint8_t { clean, found, failed };

/// Whether [sp, end) holds an address in one of the ranges; `where` is that address. Fit for signal handlers: `buffer` is all the
/// memory it uses.
Scan scan_stack(const CodeRanges &ranges, std::uintptr_t sp, std::uintptr_t end, std::span<std::uintptr_t> buffer,
                std::uintptr_t &where);

}  // namespace shunt::core
