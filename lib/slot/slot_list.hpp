// slot_list.hpp: the slots of a plan or a change, object by object, in the order of the objects' addresses.
#pragma once

#include <algorithm>
#include <span>

#include "base/page_vector.hpp"
#include "slot/slot.hpp"

namespace shunt::core {

struct SlotList {
  PageVector<Slot> slots;
  PageVector<Span> spans;   // in ascending order of address
  PageVector<OddSlot> odd;  // in the order of the slots

  [[nodiscard]] std::span<Slot> in(const Span &span) { return {slots.data() + span.first, span.count}; }
  [[nodiscard]] std::span<const Slot> in(const Span &span) const { return {slots.data() + span.first, span.count}; }
  [[nodiscard]] std::uint32_t number(const Slot &slot) const {
    return static_cast<std::uint32_t>(&slot - slots.data());
  }

  /// Only of a slot that is odd.
  [[nodiscard]] const OddSlot &odd_of(const Slot &slot) const {
    return *std::lower_bound(odd.begin(), odd.end(), number(slot),
                             [](const OddSlot &one, std::uint32_t k) { return one.slot < k; });
  }
  OddSlot &odd_of(const Slot &slot) { return const_cast<OddSlot &>(std::as_const(*this).odd_of(slot)); }
  /// What the slot held, and leads back to; `function` is that of its redirect.
  [[nodiscard]] std::uintptr_t before(const Slot &slot, std::uintptr_t function) const {
    return slot.is_odd ? odd_of(slot).before : function;
  }
  /// What the slot holds while its redirect, which has this replacement, is on top.
  [[nodiscard]] std::uintptr_t after(const Slot &slot, std::uintptr_t replacement) const {
    return slot.is_odd ? replacement + static_cast<std::uintptr_t>(std::intptr_t{odd_of(slot).addend}) : replacement;
  }

  /// The slot at an address, or NULL.
  [[nodiscard]] const Slot *at(std::uintptr_t address) const {
    const Span *span = std::lower_bound(spans.begin(), spans.end(), address,
                                        [](const Span &one, std::uintptr_t value) { return one.high < value; });
    if (span == spans.end() || address < span->low) return nullptr;
    for (const Slot &slot : in(*span))
      if (span->base + slot.where == address) return &slot;
    return nullptr;
  }
  Slot *at(std::uintptr_t address) { return const_cast<Slot *>(std::as_const(*this).at(address)); }

  /// False when there is no memory.
  [[nodiscard]] bool assign(const SlotList &other) {
    return slots.assign({other.slots.data(), other.slots.size()}) &&
           spans.assign({other.spans.data(), other.spans.size()}) && odd.assign({other.odd.data(), other.odd.size()});
  }
};

}  // namespace shunt::core
