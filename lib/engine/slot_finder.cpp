#include "engine/slot_finder.hpp"

#include <algorithm>
#include <bit>

namespace shunt::core {

SlotFinder::SlotFinder(ObjectTable &objects, NameNumbers &numbers, LastSearch &last,
                       std::span<const LoadedPatch> patches, Plan &plan)
    : objects_(objects),
      last_(last),
      patches_(patches),
      plan_(plan),
      names_(plan.requests.size()),
      numbers_(plan.requests.size()),
      by_hash_(std::bit_ceil(8 * plan.requests.size())),
      by_hash_shift_(32 - static_cast<std::uint32_t>(std::countr_zero(by_hash_.size()))) {
  for (std::uint32_t k = 0; k < names_.size(); ++k) {
    const Request &request = *plan.requests[k];
    Name &name = names_[k];
    numbers_[k] = numbers.of(request.symbol);
    name.hash = index_hash(request.name);
    name.size = static_cast<std::uint32_t>(request.symbol.size()) + 1;
    hashes_.insert(name.hash);
    const auto filter = std::find(filters_.begin(), filters_.end(), request.filter.get());
    name.filter = static_cast<std::uint32_t>(filter - filters_.begin());
    if (filter == filters_.end()) filters_.push_back(request.filter.get());

    std::uint32_t &head = by_hash_[place_of(name.hash)];
    for (std::uint32_t other = head; other != 0; other = names_[other - 1].next)
      if (numbers_[other - 1] == numbers_[k]) names_[other - 1].is_shared = name.is_shared = any_shared_ = true;
    name.next = head;
    head = k + 1;
  }
  is_narrow_ =
      std::all_of(filters_.begin(), filters_.end(), [](const CallerFilter *filter) { return filter->is_narrow(); });
}

bool SlotFinder::no_memory(Problem &problem) const {
  problem.set(Code::out_of_memory, "no memory for a plan of %zu redirects", names_.size());
  return false;
}

bool SlotFinder::chooses_any(std::uint32_t request) const {
  for (std::uint32_t rank = 0; rank < ranks_; ++rank)
    if (is_chosen(request, rank)) return true;
  return false;
}

bool SlotFinder::prepare(Problem &problem) {
  ranks_ = objects_.by_address().size();
  if (!chosen_.assign_zero(ranks_ * filters_.size())) return no_memory(problem);
  for (std::uint32_t rank = 0; rank < ranks_; ++rank) {
    const Object &object = object_at(rank);
    const char chosen = is_patch(patches_, object) ? kChosenPatch : kChosen;
    for (std::size_t f = 0; f < filters_.size(); ++f)
      if (filters_[f]->chooses(object)) chosen_[f * ranks_ + rank] = chosen;
    if (!object.is_readable && is_meant(rank) && !pass_over(object, problem)) return false;
  }
  return true;
}

/// Somebody asks for the calls of this object.
bool SlotFinder::is_meant(std::uint32_t rank) const {
  for (std::size_t f = 0; f < filters_.size(); ++f)
    if (chosen_[f * ranks_ + rank] != 0 || filters_[f]->is_patch(object_at(rank))) return true;
  return false;
}

/// An object that cannot be read: an error where it was asked for in particular.
bool SlotFinder::pass_over(const Object &object, Problem &problem) {
  if (std::any_of(filters_.begin(), filters_.end(), [&](const CallerFilter *one) { return one->names(object); })) {
    problem.object = object.path;
    problem.set(Code::image_malformed, "%s was asked for as a caller and cannot be read: %s", object.path,
                object.unreadable);
    return false;
  }
  return plan_.unread.push_back({object.path, object.unreadable}) || no_memory(problem);
}

bool SlotFinder::knows_all() const {
  if (!last_answers() || filters_.size() != 1 || last_.held().size() != names_.size()) return false;
  const PageVector<FoundSlots::Part> &parts = last_.found().parts;
  return std::all_of(parts.begin(), parts.end(),
                     [&](const FoundSlots::Part &part) { return chosen_[part.rank] == kChosen; });
}

bool SlotFinder::take_known(Problem &problem) {
  const FoundSlots &found = last_.found();
  SlotList &list = plan_.list;
  if (!list.slots.assign({found.slots.data(), found.slots.size()}) || !list.spans.reserve(found.parts.size()))
    return no_memory(problem);
  for (const FoundSlots::Part &part : found.parts) {
    const Object &object = object_at(part.rank);
    const std::uintptr_t base = object.image.low();
    (void)list.spans.push_back(
        {object.id, object.path, base, base + part.low, base + part.high, part.first, part.count});
  }
  return true;
}

/// Without memory for it there is nothing to tell from, and slots are read.
void SlotFinder::learn() {
  if (!last_answers() || filters_.size() != 1) return;
  FoundSlots &found = last_.found();
  const SlotList &list = plan_.list;
  if (list.slots.size() != found.slots.size() || list.spans.size() != found.parts.size()) return;
  PageVector<Held> &held = last_.held();
  held.clear();
  if (!held.reserve(names_.size())) return;
  for (std::size_t k = 0; k < found.parts.size(); ++k) {
    found.parts[k].low = static_cast<std::uint32_t>(list.spans[k].low - list.spans[k].base);
    found.parts[k].high = static_cast<std::uint32_t>(list.spans[k].high - list.spans[k].base);
  }
  for (const PlannedRedirect &one : plan_.redirects)
    (void)held.push_back({one.function, one.provider, one.slots, one.callers, one.provider_calls_through_slots});
}

/// Makes what was found in one object part of the plan.
bool SlotFinder::deal(const FoundSlots &found, const FoundSlots::Part &part, Problem &problem) {
  const Object &object = object_at(part.rank);
  SlotList &list = plan_.list;
  const auto first = static_cast<std::uint32_t>(list.slots.size());
  if (!list.slots.reserve(first + part.count)) return no_memory(problem);
  Slot *end = list.slots.data() + first;
  if (filters_.size() == 1 && chosen_[part.rank] == kChosen) {  // nearly always
    std::memcpy(static_cast<void *>(end), found.slots.data() + part.first, part.count * sizeof(Slot));
    end += part.count;
  } else {
    for (const Slot &slot : std::span(found.slots.data() + part.first, part.count)) {
      if (is_chosen(slot.redirect, part.rank))
        *end++ = slot;
      else if (!take_self(slot, object))
        return no_memory(problem);
    }
  }
  const auto count = static_cast<std::uint32_t>(end - list.slots.data()) - first;
  list.slots.set_size(first + count);
  return count == 0 || list.spans.push_back({object.id, object.path, object.image.low(), 0, 0, first, count}) ||
         no_memory(problem);
}

/// A relocation in an object that was not chosen: where that is the request's patch, calls through it lead to the original.
bool SlotFinder::take_self(const Slot &slot, const Object &object) {
  if (!slot.is_plain || !plan_.requests[slot.redirect]->filter->is_patch(object)) return true;
  const std::uintptr_t address = object.image.low() + slot.where;
  return plan_.self_slots.push_back({address, load_word(address), 0, slot.redirect});
}

bool SlotFinder::search_object(std::uint32_t rank, FoundSlots &found, Problem &problem) {
  Object &object = object_at(rank);
  if (!object.is_readable || (is_narrow_ && !is_meant(rank))) return true;

  bool memory = true;
  const auto first = static_cast<std::uint32_t>(found.slots.size());
  const auto visit = [&](IndexHash hash, Image::RelocationRef reference, const char *name) {
    const auto readable = static_cast<std::size_t>(object.image.strings_readable_end() - name);
    for (std::uint32_t next = by_hash_[place_of(hash)]; next != 0; next = names_[next - 1].next) {
      const Name &asked = names_[next - 1];
      if (asked.hash == hash && asked.size <= readable &&
          std::memcmp(name, plan_.requests[next - 1]->name.text, asked.size) == 0)
        memory = memory && take(next - 1, object, reference, found);
    }
  };
  const bool is_fresh = !object.index.is_built;
  const Object *following = rank + 1 < ranks_ ? &object_at(rank + 1) : nullptr;
  if (!objects_.have_index(object, following, hashes_, visit, problem)) {
    found.slots.set_size(first);
    return !problem && (!is_meant(rank) || pass_over(object, problem));
  }
  if (!is_fresh) {
    const Image &image = object.image;
    constexpr std::size_t kFew = 4;  // names that are compared with all hashes faster than all hashes are looked up
    const auto visit_indexed = [&](IndexHash hash, Image::RelocationRef reference) {
      visit(hash, reference, image.symbol_name(image.relocation(reference).symbol));
    };
    if (names_.size() <= kFew) {
      for (std::uint32_t k = 0; k < names_.size(); ++k)
        object.index.for_each(image, plan_.requests[k]->name, [&](Image::RelocationRef reference) {
          memory = memory && take(k, object, reference, found);
        });
    } else {
      object.index.for_each_in(hashes_, visit_indexed);
    }
  }
  const auto count = static_cast<std::uint32_t>(found.slots.size()) - first;
  return (memory && (count == 0 || found.parts.push_back({rank, first, count, 0, 0}))) || no_memory(problem);
}

/// A relocation of a name that was asked for.
bool SlotFinder::take(std::uint32_t request, const Object &object, Image::RelocationRef reference, FoundSlots &found) {
  const Relocation relocation = object.image.relocation(reference);
  const std::uintptr_t where = relocation.place - object.image.low();
  if (!data_.has_word(relocation.place)) data_ = object.image.data_around(relocation.place);
  Slot slot = {};
  slot.is_plain = relocation.place % sizeof(std::uintptr_t) == 0 && relocation.has_no_addend && where <= UINT32_MAX &&
                  data_.has_word(relocation.place);
  slot.where = slot.is_plain ? static_cast<std::uint32_t>(where) : reference;
  slot.redirect = request & (kMostRedirects - 1);
  slot.kind = relocation.kind;
  if (slot.is_plain) __builtin_prefetch(reinterpret_cast<const void *>(relocation.place));
  return found.slots.push_back(slot);
}

}  // namespace shunt::core
