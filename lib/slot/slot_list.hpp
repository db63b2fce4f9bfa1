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

  /// Takes a span out, with its slots.
  void remove(const Span &span) {
    const std::uint32_t first = span.first, count = span.count;
    std::copy(slots.begin() + first + count, slots.end(), slots.begin() + first);
    slots.set_size(slots.size() - count);
    OddSlot *kept = odd.begin();
    for (OddSlot one : odd) {
      if (one.slot >= first && one.slot - first < count) continue;
      if (one.slot >= first) one.slot -= count;
      *kept++ = one;
    }
    odd.set_size(static_cast<std::size_t>(kept - odd.begin()));
    std::copy(&span + 1, std::as_const(spans).end(), spans.begin() + (&span - spans.begin()));
    spans.set_size(spans.size() - 1);
    for (Span &one : spans)
      if (one.first > first) one.first -= count;
  }

  /// False when there is no memory.
  [[nodiscard]] bool assign(const SlotList &other) {
    return slots.assign({other.slots.data(), other.slots.size()}) &&
           spans.assign({other.spans.data(), other.spans.size()}) && odd.assign({other.odd.data(), other.odd.size()});
  }
};

}  // namespace shunt::core
