// write_window.hpp: makes the pages that hold slots writable for a moment, and gives them back exactly as they were.
//
// After relocation the dynamic linker makes RELRO pages (.got, vtables) read-only. To store there, the pages that hold the
// slots in question are opened, those of one object at a time; its slots are stored; and the pages are closed. A page that is
// already writable is left alone, and no page is ever writable and executable: one that is executable is refused.
//
// A small mapping is opened whole, and by PROT_WRITE alone: then the kernel neither splits it nor joins it to the writable
// data behind it, which is a third of what opening and closing costs. Every processor lets a page be read that may be written
// (mprotect(2)), so other threads notice nothing; only another process that reads this one's memory through the kernel
// (process_vm_readv) is turned away from that page meanwhile. A large mapping has the pages in question opened for both.
//
// A page can be sealed (mseal(2)): then mprotect answers EPERM and there is no other way that stores a word in one piece
// (the kernel does not promise that for writes through /proc/self/mem), so it is refused as well.
#pragma once

#include <cstdint>

#include "base/error.hpp"
#include "base/page_vector.hpp"
#include "memory/protections.hpp"

namespace shunt::core {

class WriteWindows {
 public:
  WriteWindows() = default;
  WriteWindows(const WriteWindows &) = delete;
  WriteWindows &operator=(const WriteWindows &) = delete;
  ~WriteWindows() { close(); }

  /// Opens the pages of `count` words whose addresses `address_of(k)` gives, in any order, the lowest being `low` and the
  /// highest `high`. What lies in one mapping is opened by one call. `object` is what a Problem names.
  template <class AddressOf>
  bool open(std::uintptr_t low, std::uintptr_t high, std::size_t count, AddressOf address_of, const char *object,
            Problem &problem);

  /// Restores every protection, newest first. False when the kernel refused one; the rest are restored all the same.
  bool close();

  [[nodiscard]] std::size_t opened() const { return spans_.size(); }

 private:
  struct Span {
    std::uintptr_t begin, end;
    int protection;
  };
  bool open_span(std::uintptr_t first_word, std::uintptr_t last_word, const Mapping &mapping, const char *object,
                 Problem &problem);
  bool look_up(std::uintptr_t address, Mapping &mapping, const char *object, Problem &problem);

  Protections protections_;
  PageVector<Span> spans_;
};

/// Stores `value` if the word still holds `expected`. `found` is what it held. One aligned atomic word.
inline bool compare_and_store(std::uintptr_t address, std::uintptr_t expected, std::uintptr_t value,
                              std::uintptr_t &found) {
  found = expected;
  return __atomic_compare_exchange_n(reinterpret_cast<std::uintptr_t *>(address), &found, value, false,
                                     __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

inline std::uintptr_t load_word(std::uintptr_t address) {
  return __atomic_load_n(reinterpret_cast<const std::uintptr_t *>(address), __ATOMIC_ACQUIRE);
}

/// Writes a word whose page cannot be opened, through /proc/self/mem. The kernel does not promise that it lands in one piece, so
/// this is the last resort of an undo and nothing else. False when that is refused as well.
bool write_through_kernel(std::uintptr_t address, std::uintptr_t value);

template <class AddressOf>
bool WriteWindows::open(std::uintptr_t low, std::uintptr_t high, std::size_t count, AddressOf address_of,
                        const char *object, Problem &problem) {
  for (;;) {
    Mapping mapping;
    if (!look_up(low, mapping, object, problem)) return false;
    if (high < mapping.end) return open_span(low, high, mapping, object, problem);  // all in one mapping: nearly always
    std::uintptr_t last = low, next = high;
    for (std::size_t k = 0; k < count; ++k) {
      const std::uintptr_t word = address_of(k);
      if (word < mapping.end && word > last) last = word;
      if (word >= mapping.end && word < next) next = word;
    }
    if (!open_span(low, last, mapping, object, problem)) return false;
    low = next;
  }
}

}  // namespace shunt::core
