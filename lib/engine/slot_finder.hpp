// slot_finder.hpp: the first half of planning: for each name asked for, its relocations in all objects, laid out object by
// object, since that is how slots are read and written.
//
// Where a name was asked for before, its relocations come from the postings. Otherwise all names are looked for in one
// object before the next: its index is built if it has none, and each entry is looked up among the names while it is in the
// cache. What a slot holds is asked of memory as soon as the slot is known, and read when the next object has been searched.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "engine/loaded_patch.hpp"
#include "engine/plan.hpp"

namespace shunt::core {

/// Numbers for the names that were ever asked for, from 1: what postings know names by.
class NameNumbers {
 public:
  std::uint32_t of(const std::string &name) {
    return numbers_.try_emplace(name, static_cast<std::uint32_t>(numbers_.size()) + 1).first->second;
  }

 private:
  std::unordered_map<std::string, std::uint32_t> numbers_;
};

class SlotFinder {
 public:
  /// Made outside the loader's lock: takes all memory that depends on the number of requests.
  SlotFinder(ObjectTable &objects, NameNumbers &numbers, std::span<const LoadedPatch> patches, Plan &plan);

  /// Only inside ObjectTable::while_locked(). Fills in the plan's slots (address, redirect, kind and is_plain; of one that is
  /// not plain the address is the object's lowest plus the relocation's reference), spans, self slots and unread objects.
  /// Calls `read(number of the span, object)` for each span when it is complete; that answers false to stop.
  template <class Read>
  bool run(Read read, Problem &problem);

  [[nodiscard]] bool chooses_any(std::uint32_t request) const;
  [[nodiscard]] bool shares_name(std::uint32_t request) const { return names_[request].is_shared; }

 private:
  struct Name {  // of one request
    std::uint32_t number = 0;
    std::uint32_t hash = 0;
    std::uint32_t filter = 0;
    std::uint32_t next = 0;  // the next request with the same place in by_hash_, plus 1
    bool is_shared = false;  // another request of the transaction has the same name
  };
  struct Other {  // a relocation that is no slot of the plan, or none that its address tells
    std::uint32_t request;
    Posting posting;
  };

  bool choose(Problem &problem);
  [[nodiscard]] bool all_are_posted() const;
  bool lay_out_postings(Problem &problem);
  bool search_object(std::uint32_t rank, Problem &problem);
  bool take(std::uint32_t request, std::uint32_t rank, const Object &object, Image::RelocationRef reference);
  bool take_posting(std::uint32_t request, Posting posting, const Object &object);
  void remember();
  /// A patch is a caller like others, but not of the functions that it replaces itself.
  [[nodiscard]] bool is_chosen(std::uint32_t request, std::uint32_t rank) const {
    const char chosen = chosen_[names_[request].filter * ranks_ + rank];
    return chosen == kChosen || (chosen == kChosenPatch && !replaces(patches_, object_at(rank), plan_.requests[request]->symbol));
  }
  [[nodiscard]] Object &object_at(std::uint32_t rank) const { return objects_[objects_.by_address()[rank]]; }
  bool no_memory(Problem &problem) const;

  static constexpr char kChosen = 1, kChosenPatch = 2;  // 0: not chosen

  ObjectTable &objects_;
  std::span<const LoadedPatch> patches_;
  Plan &plan_;
  std::vector<Name> names_;
  std::vector<const CallerFilter *> filters_;
  std::vector<std::uint32_t> by_hash_;  // a request plus 1, by the upper bits of its name's hash
  std::uint32_t by_hash_shift_ = 0;
  bool is_narrow_ = false;  // every request is for named callers: the other objects need not be searched
  std::size_t ranks_ = 0;
  PageVector<char> chosen_;         // by filter, then by rank
  PageVector<std::uint32_t> next_;  // by rank: where the object's next slot goes
  PageVector<std::uint32_t> span_ranks_;
  PageVector<Other> others_;
};

template <class Read>
bool SlotFinder::run(Read read, Problem &problem) {
  if (!choose(problem)) return false;
  const auto read_span = [&](std::size_t number) {
    return read(static_cast<std::uint32_t>(number), object_at(span_ranks_[number]));
  };
  if (all_are_posted()) {
    if (!lay_out_postings(problem)) return false;
    for (std::size_t number = 0; number < plan_.spans.size(); ++number) {
      if (number + 1 < plan_.spans.size()) {
        const Span &next = plan_.spans[number + 1];
        for (std::uint32_t k = next.first; k < next.first + next.count; ++k)
          __builtin_prefetch(reinterpret_cast<const void *>(plan_.slots[k].address));
      }
      if (!read_span(number)) return false;
    }
    return true;
  }
  std::size_t done = 0;
  for (std::uint32_t rank = 0; rank < ranks_; ++rank) {
    const std::size_t complete = plan_.spans.size();
    if (!search_object(rank, problem)) return false;
    for (; done < complete; ++done)
      if (!read_span(done)) return false;
  }
  for (; done < plan_.spans.size(); ++done)
    if (!read_span(done)) return false;
  remember();
  return true;
}

}  // namespace shunt::core
