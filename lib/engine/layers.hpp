// layers.hpp: the changes that stand, and how they lie over each other.
//
// Layers are kept for each symbol, oldest first; which of them cover a slot follows from the changes' own slot lists, so no
// slot needs a record of its own. A layer's original is the newest layer below it that covers all of its slots, or else the
// real function: a layer for one caller only cannot stand in for calls from everywhere.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/request.hpp"
#include "slot/slot.hpp"

namespace shunt::core {

struct ChangeRedirect {
  std::shared_ptr<const Request> request;
  std::uintptr_t function = 0;  // the real function
  const char *provider = "";    // interned
  std::uintptr_t original = 0;  // kept up to date; read without a lock, see Change::original()
};

/// A transaction that was applied.
struct Change {
  std::vector<ChangeRedirect> redirects;
  PageVector<Slot> slots;
  PageVector<Run> runs;  // ascending
  std::size_t written_slots = 0;
  std::size_t lazy_slots = 0;
  std::size_t conflicts = 0;  // counted by the revert
  bool is_applied = false;

  /// The slot of this change at an address, or NULL. Only slots that lead to the replacement.
  [[nodiscard]] Slot *slot_at(std::uintptr_t address);
  [[nodiscard]] std::uintptr_t original(std::size_t k) const { return __atomic_load_n(&redirects[k].original, __ATOMIC_ACQUIRE); }
  void set_original(std::size_t k, std::uintptr_t original);
};

struct Layer {
  Change *change = nullptr;
  std::uint32_t redirect = 0;
  [[nodiscard]] ChangeRedirect &operator*() const { return change->redirects[redirect]; }
};

class Layers {
 public:
  /// Oldest first; empty when the symbol has none.
  [[nodiscard]] const std::vector<Layer> &over(const std::string &symbol) const;

  /// What a layer's original is, given its slots and the `below` oldest layers over its symbol.
  static std::uintptr_t original_over(const std::vector<Layer> &layers, std::size_t below, const PageVector<Slot> &slots,
                                      std::uint32_t redirect, std::uintptr_t function, const Change *leaving = nullptr);

  void add(Change &change);
  void remove(Change &change);
  [[nodiscard]] const std::vector<Change *> &changes() const { return changes_; }

 private:
  std::unordered_map<std::string, std::vector<Layer>> by_symbol_;
  std::vector<Change *> changes_;  // oldest first
};

}  // namespace shunt::core
