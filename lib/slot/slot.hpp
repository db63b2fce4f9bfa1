// slot.hpp: a slot that a plan means to write, and how slots are written.
//
// A slot is one aligned word; a store replaces it as a whole, so a thread that reads it sees the old function or the new one
// (Intel SDM 3A, 9.1.1; Arm ARM, B2.2.1). Whether it still holds what the plan saw is asked in the same instruction
// (compare-and-exchange), so that the change of another tool is never overwritten.
#pragma once

#include <cstdint>
#include <span>

#include "arch/reloc_kind.hpp"
#include "memory/write_window.hpp"

namespace shunt::core {

struct Slot {
  std::uintptr_t address = 0;
  std::uintptr_t before = 0;  // what it held; where a revert leads back to
  std::uintptr_t after = 0;
  std::uint32_t redirect = 0;  // which redirect of the transaction
  arch::RelocKind kind = arch::RelocKind::other;
  bool is_lazy = false;  // held the dynamic linker's stub when the plan was made
  bool is_self = false;  // belongs to the patch: leads to the original, not to the replacement
  bool is_covered = false;  // during a revert: a layer above holds it
};

/// The slots of one object: slots[first] .. slots[first + count - 1].
struct Run {
  std::uint64_t object = 0;  // ObjectId
  const char *path = "";     // interned
  std::uintptr_t low = 0, high = 0;  // addresses of the first and the last slot
  std::uint32_t first = 0, count = 0;
};

/// One word to change. `also_from`: a second value that may be found there (0: none), for a lazily bound slot that the
/// dynamic linker has bound since the plan was made.
struct WordChange {
  std::uintptr_t address, from, to, also_from;
};

/// Changes one word. `found` is what it held.
inline bool change_word(const WordChange &change, std::uintptr_t &found) {
  if (compare_and_store(change.address, change.from, change.to, found)) return true;
  return change.also_from != 0 && found == change.also_from &&
         compare_and_store(change.address, change.also_from, change.to, found);
}

/// Changes `count` words, `at(k)` each, in pages that are open for writing; all of them or none. `found(k, value)` is told
/// what each held. On failure every word is as it was, `failed` is the position and `value` what was there instead.
template <class At, class Found>
bool change_all_words(std::size_t count, At at, Found found, std::size_t &failed, std::uintptr_t &value) {
  for (std::size_t k = 0; k < count; ++k) {
    if (change_word(at(k), value)) {
      found(k, value);
      continue;
    }
    failed = k;
    for (std::size_t j = k; j-- > 0;) {
      const WordChange done = at(j);  // its `from` is what found() noted
      std::uintptr_t ignored = 0;
      compare_and_store(done.address, done.to, done.from, ignored);
    }
    return false;
  }
  return true;
}

}  // namespace shunt::core
