// last_search.hpp: what the last search through all objects found. A patch is planned and then applied, or taken out and put
// in again: then the same names are asked for, and the objects need not be gone through once more. What the slots hold is not
// kept, it is read every time.
//
// Derived from the import indexes, and thrown away when an object comes or goes, when other names are asked for, and when it
// is larger than is right for so many objects.
#pragma once

#include <cstdint>
#include <span>

#include "base/page_vector.hpp"
#include "slot/slot.hpp"

namespace shunt::core {

/// Relocations of the names asked for, object by object; of each: where, which name, its kind, is_plain.
struct FoundSlots {
  struct Part {          // of one object
    std::uint32_t rank;  // in the order of addresses
    std::uint32_t first, count;
    std::uint32_t low, high;  // `where` of the lowest and the highest slot, once all were read
  };
  PageVector<Slot> slots;
  PageVector<Part> parts;

  void clear() {
    slots.clear();
    parts.clear();
  }
};

/// What all slots of one name held.
struct Held {
  std::uintptr_t function;  // 0: there are no slots
  const char *provider;
  std::uint32_t slots, callers;
  bool provider_calls_through_slots;
};

class LastSearch {
 public:
  /// Memory is at most this for each object.
  static constexpr std::size_t kBytesPerObject = 512;

  [[nodiscard]] bool answers(std::uint64_t generation, std::span<const std::uint32_t> names) const {
    return generation == generation_ && std::equal(names.begin(), names.end(), names_.begin(), names_.end());
  }
  /// To be filled in by a new search.
  FoundSlots &start() {
    generation_ = 0;
    held_.clear();
    found_.clear();
    return found_;
  }
  FoundSlots &found() { return found_; }
  /// The search is complete.
  void keep(std::uint64_t generation, std::span<const std::uint32_t> names, std::size_t objects) {
    const std::size_t bytes = found_.slots.size() * sizeof(Slot) + found_.parts.size() * sizeof(FoundSlots::Part);
    if (bytes <= objects * kBytesPerObject && names_.assign(names))
      generation_ = generation;
    else
      found_ = FoundSlots();
  }
  /// For each name, when every slot was read and held the function of its name; else empty.
  PageVector<Held> &held() { return held_; }

 private:
  FoundSlots found_;
  PageVector<Held> held_;
  PageVector<std::uint32_t> names_;
  std::uint64_t generation_ = 0;  // of the object table; 0: nothing is known
};

}  // namespace shunt::core
