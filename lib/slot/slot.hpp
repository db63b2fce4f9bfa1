// slot.hpp: a slot that a plan means to write, and how a slot is written.
//
// A slot is one aligned word; a store replaces it as a whole, so a thread that reads it sees the old function or the new one
// (Intel SDM 3A, 9.1.1; Arm ARM, B2.2.1). Whether it still holds what the plan saw is asked in the same instruction
// (compare-and-exchange), so that the change of another tool is never overwritten.
#pragma once

#include <cstdint>

#include "arch/reloc_kind.hpp"
#include "memory/write_window.hpp"

namespace shunt::core {

/// A slot of a redirect, packed: a change has tens of thousands, and what does not fit the cache is slow to write and to take
/// out again. It led to the function, and leads to the replacement while the redirect is on top; unless it is odd.
struct Slot {
  std::uint32_t where;  // from the base of its span
  std::uint32_t redirect : 24;
  arch::RelocKind kind : 2;
  bool is_plain : 1;    // while searching: `where` is the slot's place; otherwise it is the relocation's reference
  bool is_late : 1;     // the dynamic linker binds it lazily: a thread may be doing so now, whatever the slot holds
  bool is_lazy : 1;     // held the dynamic linker's stub when the plan was made
  bool is_covered : 1;  // during a revert: a layer above holds it
  bool is_left : 1;     // while planning: found not to be written after all
  bool is_odd : 1;      // has an OddSlot
};
static_assert(sizeof(Slot) == 8);
constexpr std::uint32_t kMostRedirects = 1U << 24;

/// What a slot that is not the common case held, and the displacement of what it is to hold.
struct OddSlot {
  std::uintptr_t before;
  std::uint32_t slot;
  std::int16_t addend;  // of a relocation in data: a tag, nearly always 0
};

/// A slot of the patch itself, which leads to the original.
struct SelfSlot {
  std::uintptr_t address, before, after;
  std::uint32_t redirect;
};

/// The slots of one object: slots[first] .. slots[first + count - 1], all between `low` and `high`.
struct Span {
  std::uint64_t object;  // ObjectId
  const char *path;      // interned
  std::uintptr_t base;   // the lowest address of the object
  std::uintptr_t low, high;
  std::uint32_t first, count;
};

/// Changes a word that holds `from`; or `also_from` (0: none), which is what the dynamic linker may have put into a lazily
/// bound slot since the plan was made. `found` is what it held.
inline bool change_word(std::uintptr_t address, std::uintptr_t from, std::uintptr_t to, std::uintptr_t also_from,
                        std::uintptr_t &found) {
  if (compare_and_store(address, from, to, found)) return true;
  return also_from != 0 && found == also_from && compare_and_store(address, also_from, to, found);
}

}  // namespace shunt::core
