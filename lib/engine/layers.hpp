// layers.hpp: the changes that stand, and how they lie over each other.
//
// Layers are kept for each symbol, oldest first; which of them cover a slot follows from the changes' own slot lists, so no
// slot needs a record of its own. A layer's original is the newest layer below it that covers all of its slots, or else the
// real function: a layer for one caller only cannot stand in for calls from everywhere.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/request.hpp"
#include "slot/slot_list.hpp"

namespace shunt::core {

struct ChangeRedirect {
  std::shared_ptr<const Request> request;
  std::uintptr_t function = 0;  // the real function; 0: an export of a patch that matched nothing
  const char *provider = "";    // interned
  std::uintptr_t original = 0;  // kept up to date; read without a lock, see Change::original()
  std::uint32_t slots = 0;
  std::uintptr_t replacement = 0;
};

/// A transaction that was applied.
struct Change {
  std::vector<ChangeRedirect> redirects;
  SlotList list;
  PageVector<SelfSlot> self_slots;
  std::uint64_t seen = 0;     // generation of the object table in which all of its objects were known to be there
  std::size_t conflicts = 0;  // counted by the revert
  bool has_late = false;      // a slot that is_late
  std::atomic<bool> is_applied = false;  // asked by any thread, changed with the engine held

  [[nodiscard]] std::uintptr_t before(const Slot &slot) const {
    return list.before(slot, redirects[slot.redirect].function);
  }
  [[nodiscard]] std::uintptr_t after(const Slot &slot) const {
    return list.after(slot, redirects[slot.redirect].replacement);
  }
  [[nodiscard]] std::uintptr_t original(std::size_t k) const {
    return __atomic_load_n(&redirects[k].original, __ATOMIC_ACQUIRE);
  }
  void set_original(std::size_t k, std::uintptr_t original);
};

struct Layer {
  Change *change = nullptr;
  std::uint32_t redirect = 0;
  [[nodiscard]] ChangeRedirect &operator*() const { return change->redirects[redirect]; }
  [[nodiscard]] ChangeRedirect *operator->() const { return &change->redirects[redirect]; }
  /// Its slot at an address, or NULL.
  [[nodiscard]] Slot *slot_at(std::uintptr_t address) const {
    Slot *slot = change->list.at(address);
    return slot != nullptr && slot->redirect == redirect ? slot : nullptr;
  }
};

class Layers {
 public:
  /// Oldest first; empty when the symbol has none.
  [[nodiscard]] const std::vector<Layer> &over(const std::string &symbol) const;

  /// The original of a layer whose slots are those of `redirect` among `slots`, and which lies over the `below` oldest layers
  /// of its symbol, `leaving` not counted.
  static std::uintptr_t original_over(const std::vector<Layer> &layers, std::size_t below, const SlotList &slots,
                                      std::uint32_t redirect, std::uintptr_t function, const Change *leaving = nullptr);
  /// The value of the newest layer over a slot; `value` when there is none.
  [[nodiscard]] static std::uintptr_t top_of(const std::vector<Layer> &layers, std::uintptr_t address,
                                             std::uintptr_t value);

  void add(Change &change);
  void remove(Change &change);
  [[nodiscard]] const std::vector<Change *> &changes() const { return changes_; }

 private:
  std::unordered_map<std::string, std::vector<Layer>> by_symbol_;
  std::vector<Change *> changes_;  // oldest first
};

}  // namespace shunt::core
