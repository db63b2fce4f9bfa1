// write_window.hpp: makes the pages that hold slots writable for a moment, and gives them back exactly as they were.
//
// After relocation the dynamic linker makes RELRO pages (.got, vtables) read-only. To store there, the pages that hold the
// slots in question are opened, all of them before the first store, so that a refusal is known while nothing has been
// written; then everything is stored; then all are closed. A page that is already writable is left alone, and no page is
// ever writable and executable: one that is executable is refused.
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

  /// Opens the pages of `count` words whose addresses `address_of(k)` gives. Adjacent pages of one mapping are opened by one
  /// call. `object` is what a Problem names. Words of one object should come together; order does not matter.
  template <class AddressOf>
  bool open(std::size_t count, AddressOf address_of, const char *object, Problem &problem);

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
inline bool compare_and_store(std::uintptr_t address, std::uintptr_t expected, std::uintptr_t value, std::uintptr_t &found) {
  found = expected;
  return __atomic_compare_exchange_n(reinterpret_cast<std::uintptr_t *>(address), &found, value, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE);
}

inline std::uintptr_t load_word(std::uintptr_t address) {
  return __atomic_load_n(reinterpret_cast<const std::uintptr_t *>(address), __ATOMIC_ACQUIRE);
}

template <class AddressOf>
bool WriteWindows::open(std::size_t count, AddressOf address_of, const char *object, Problem &problem) {
  // One mapping at a time: the lowest word not yet covered decides which, and every word inside it widens the span. Nearly
  // always all words of an object lie in one mapping, so this is one pass.
  for (std::uintptr_t done_below = 0;;) {
    std::uintptr_t lowest = UINTPTR_MAX;
    for (std::size_t k = 0; k < count; ++k)
      if (const std::uintptr_t word = address_of(k); word >= done_below && word < lowest) lowest = word;
    if (lowest == UINTPTR_MAX) return true;
    Mapping mapping;
    if (!look_up(lowest, mapping, object, problem)) return false;
    std::uintptr_t highest = lowest;
    for (std::size_t k = 0; k < count; ++k)
      if (const std::uintptr_t word = address_of(k); word > highest && word < mapping.end) highest = word;
    if (!open_span(lowest, highest, mapping, object, problem)) return false;
    done_below = mapping.end;
  }
}

}  // namespace shunt::core
