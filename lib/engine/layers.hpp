// layers.hpp: the changes that stand, and how they lie over each other.
//
// Layers are kept for each symbol, oldest first; which of them cover a slot follows from the changes' own slot lists, so no
// slot needs a record of its own. Layers that redirect an entry are kept for each function too, since an entry is reached under
// every name.
//
// A layer's original is the newest layer below it that covers all calls that come to it, or else the real function: a layer for
// one caller only cannot stand in for calls from everywhere. A layer with an entry covers all calls of its function; one without
// covers slots, and none of the calls that a layer with an entry gets beside its slots.
//
// The real function, while a layer over its entry stands, is the entry's trampoline: the function's own address would lead to
// the newest of these layers. That holds for layers below as well, those that stood before.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/request.hpp"
#include "entry/entries.hpp"
#include "slot/slot_list.hpp"

namespace shunt::core {

struct ChangeRedirect {
  std::shared_ptr<const Request> request;
  std::uintptr_t function = 0;  // the real function; 0: an export of a patch that matched nothing
  const char *provider = "";    // interned
  std::uintptr_t original = 0;  // kept up to date; read without a lock, see Change::original()
  std::uint32_t slots = 0;
  std::uintptr_t replacement = 0;
  std::uintptr_t trampoline = 0;  // of the function's entry; 0: this redirects no entry
  EntryId entry = 0;
  ObjectId holder = 0;  // of the entry: the object
  bool stands_for_dlsym = false;

  [[nodiscard]] bool has_entry() const { return trampoline != 0; }
  [[nodiscard]] bool is_active() const { return slots > 0 || has_entry() || stands_for_dlsym; }
};

/// A transaction that was applied.
struct Change {
  std::vector<ChangeRedirect> redirects;
  SlotList list;
  PageVector<SelfSlot> self_slots;
  std::uint64_t order = 0;     // of those that stand, a newer one has a higher number
  std::uint64_t seen = 0;      // generation of the object table in which all of its objects were known to be there
  ObjectId objects_below = 0;  // those with a smaller id were looked at when it was planned
  std::size_t conflicts = 0;   // counted by the revert
  bool has_late = false;       // a slot that is_late
  EntryReport threads;         // what they noticed of the entries
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
  [[nodiscard]] std::size_t entry_count() const;
};

struct Layer {
  Change *change = nullptr;
  std::uint32_t redirect = 0;
  [[nodiscard]] ChangeRedirect &operator*() const { return change->redirects[redirect]; }
  [[nodiscard]] ChangeRedirect *operator->() const { return &change->redirects[redirect]; }
  bool operator==(const Layer &) const = default;
  /// Its slot at an address, or NULL.
  [[nodiscard]] Slot *slot_at(std::uintptr_t address) const {
    Slot *slot = change->list.at(address);
    return slot != nullptr && slot->redirect == redirect ? slot : nullptr;
  }
};

class Layers {
 public:
  /// Oldest first; empty when the symbol has none.
  [[nodiscard]] const std::vector<Layer> &over(std::string_view symbol) const;
  /// The hashes of all symbols that have layers, and perhaps of some that had.
  [[nodiscard]] const HashSet &hashes() const { return hashes_; }

  /// What decides about a layer's original.
  struct Place {
    std::uint64_t order;  // UINT64_MAX: it would be the newest
    const Request &request;
    std::uintptr_t function;
    const SlotList &slots;   // of its change; its own are those
    std::uint32_t redirect;  // of this redirect
    bool has_entry;
  };
  static Place place_of(const Layer &layer);
  /// The original of a layer, as if `leaving` did not stand.
  [[nodiscard]] std::uintptr_t original_of(const Place &place, const Change *leaving = nullptr) const;

  struct NewOriginal {
    Layer layer;
    std::uintptr_t before, original;
  };
  /// The layers of other changes whose originals change when `change`, which was added, begins to count.
  [[nodiscard]] std::vector<NewOriginal> originals_with(const Change &change) const;
  /// Or when it stops to.
  [[nodiscard]] std::vector<NewOriginal> originals_without(const Change &change) const;

  /// The newest layer over the function's entry, `leaving` not counted; NULL change when there is none.
  [[nodiscard]] Layer entry_over(std::uintptr_t function, const Change *leaving = nullptr) const;
  [[nodiscard]] bool has_entries() const { return !by_entry_.empty(); }
  /// Functions whose entries are redirected.
  template <class Visit>
  void for_each_entry(Visit visit) const {
    for (const auto &[function, layers] : by_entry_) visit(layers.back());
  }
  /// The function is gone with its object: no layer has its entry any more.
  void forget_entry(std::uintptr_t function);

  /// The value of the newest layer over a slot; `value` when there is none.
  [[nodiscard]] static std::uintptr_t top_of(const std::vector<Layer> &layers, std::uintptr_t address,
                                             std::uintptr_t value);

  void add(Change &change);
  void remove(Change &change);
  [[nodiscard]] const std::vector<Change *> &changes() const { return changes_; }

 private:
  struct Hash {  // of a name as it lies in an object, too
    using is_transparent = void;
    std::size_t operator()(std::string_view name) const { return std::hash<std::string_view>()(name); }
  };
  std::unordered_map<std::string, std::vector<Layer>, Hash, std::equal_to<>> by_symbol_;
  HashSet hashes_;
  std::unordered_map<std::uintptr_t, std::vector<Layer>> by_entry_;  // by function, oldest first
  std::vector<Change *> changes_;                                    // oldest first
  std::uint64_t next_order_ = 1;
};

}  // namespace shunt::core
