// slot_finder.hpp: the first half of planning: for each name asked for, its relocations in all objects, laid out object by
// object, since that is how slots are read and written.
//
// All names are looked for in one object before the next: its index is built if it has none, and each entry is looked up among
// the names while it is in the cache. What a slot holds is asked of memory as soon as the slot is known, and read when the next
// object has been searched. Where the last search was for the same names, what it found is taken instead.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "engine/last_search.hpp"
#include "engine/loaded_patch.hpp"
#include "engine/plan.hpp"

namespace shunt::core {

/// Numbers for the names that were ever asked for, from 1.
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
  SlotFinder(ObjectTable &objects, NameNumbers &numbers, LastSearch &last, std::span<const LoadedPatch> patches,
             Plan &plan);

  // All that follows only inside ObjectTable::while_locked(), prepare() first.
  bool prepare(Problem &problem);

  /// Every slot held the function of its name when it was last read, and nothing else has to be found out.
  [[nodiscard]] bool knows_all() const;
  /// Instead of run(), where that is so: all of the plan's slots and spans.
  bool take_known(Problem &problem);
  [[nodiscard]] const Held &held(std::uint32_t request) const { return last_.held()[request]; }
  /// After run(), where the plan's slots all hold the functions of their names: what knows_all() tells from.
  void learn();

  /// Fills in the plan's slots (where, redirect, kind and is_plain), spans, self slots
  /// and unread objects. Calls `read(number of the span, object)` for each span when it is complete; that answers false to
  /// stop.
  template <class Read>
  bool run(Read read, Problem &problem);

  [[nodiscard]] bool chooses_any(std::uint32_t request) const;
  [[nodiscard]] bool shares_name(std::uint32_t request) const { return names_[request].is_shared; }
  [[nodiscard]] bool any_shares_name() const { return any_shared_; }

 private:
  struct Name {  // of one request
    IndexHash hash = 0;
    std::uint32_t filter = 0;
    std::uint32_t next = 0;  // the next request with the same place in by_hash_, plus 1
    std::uint32_t size = 0;  // with its NUL
    bool is_shared = false;  // another request of the transaction has the same name
  };

  bool search_object(std::uint32_t rank, FoundSlots &found, Problem &problem);
  bool take(std::uint32_t request, const Object &object, Image::RelocationRef reference, FoundSlots &found);
  bool deal(const FoundSlots &found, const FoundSlots::Part &part, Problem &problem);
  bool take_self(const Slot &slot, const Object &object);
  bool pass_over(const Object &object, Problem &problem);
  [[nodiscard]] bool is_meant(std::uint32_t rank) const;
  [[nodiscard]] bool last_answers() const { return !is_narrow_ && last_.answers(objects_.generation(), numbers_); }
  /// A patch is a caller like others, but not of the functions that it replaces itself.
  [[nodiscard]] bool is_chosen(std::uint32_t request, std::uint32_t rank) const {
    const char chosen = chosen_[names_[request].filter * ranks_ + rank];
    return chosen == kChosen ||
           (chosen == kChosenPatch && !replaces(patches_, object_at(rank), plan_.requests[request]->symbol));
  }
  [[nodiscard]] std::size_t place_of(IndexHash hash) const { return std::uint32_t{hash} << 16 >> by_hash_shift_; }
  [[nodiscard]] Object &object_at(std::uint32_t rank) const { return objects_[objects_.by_address()[rank]]; }
  bool no_memory(Problem &problem) const;

  static constexpr std::size_t kMostExpected = 65536;
  static constexpr char kChosen = 1, kChosenPatch = 2;  // 0: not chosen

  ObjectTable &objects_;
  LastSearch &last_;
  std::span<const LoadedPatch> patches_;
  Plan &plan_;
  std::vector<Name> names_;
  std::vector<std::uint32_t> numbers_;  // of the names
  std::vector<const CallerFilter *> filters_;
  HashSet hashes_;
  std::vector<std::uint32_t> by_hash_;  // a request plus 1, by the upper bits of its name's hash
  std::uint32_t by_hash_shift_ = 0;
  bool any_shared_ = false;
  bool is_narrow_ = false;  // every request is for named callers: the other objects need not be searched
  std::size_t ranks_ = 0;
  PageVector<char> chosen_;  // by filter, then by rank
  FoundSlots narrow_;        // instead of the last search's
  Image::Range data_;        // where the last slot was taken
};

template <class Read>
bool SlotFinder::run(Read read, Problem &problem) {
  const auto deal_and_read = [&](const FoundSlots &found, std::size_t k) {
    const FoundSlots::Part &part = found.parts[k];
    const std::size_t complete = plan_.list.spans.size();
    if (!deal(found, part, problem)) return false;
    return plan_.list.spans.size() == complete || read(static_cast<std::uint32_t>(complete), object_at(part.rank));
  };
  if (last_answers()) {
    const FoundSlots &found = last_.found();
    if (!plan_.list.slots.reserve(found.slots.size()) || !plan_.list.spans.reserve(found.parts.size()))
      return no_memory(problem);
    for (std::size_t k = 0; k < found.parts.size(); ++k)
      if (!deal_and_read(found, k)) return false;
    return true;
  }
  FoundSlots &found = is_narrow_ ? narrow_ : last_.start();
  // Address space is cheap and growing is not: room for a slot of each name in each object, if that is not too many.
  const std::size_t guess = std::min(names_.size() * ranks_, kMostExpected);
  if (!found.slots.reserve(guess) || !found.parts.reserve(ranks_) || !plan_.list.slots.reserve(guess) ||
      !plan_.list.spans.reserve(ranks_))
    return no_memory(problem);
  std::size_t dealt = 0;
  for (std::uint32_t rank = 0; rank < ranks_; ++rank) {
    const std::size_t complete = found.parts.size();
    if (!search_object(rank, found, problem)) return false;
    for (; dealt < complete; ++dealt)
      if (!deal_and_read(found, dealt)) return false;
  }
  for (; dealt < found.parts.size(); ++dealt)
    if (!deal_and_read(found, dealt)) return false;
  if (!is_narrow_) last_.keep(objects_.generation(), numbers_, ranks_);
  return true;
}

}  // namespace shunt::core
