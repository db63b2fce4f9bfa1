#include "engine/slot_finder.hpp"

#include <algorithm>
#include <bit>

namespace shunt::core {

SlotFinder::SlotFinder(ObjectTable &objects, NameNumbers &numbers, std::span<const LoadedPatch> patches, Plan &plan)
    : objects_(objects),
      patches_(patches),
      plan_(plan),
      names_(plan.requests.size()),
      by_hash_(std::bit_ceil(8 * plan.requests.size())),
      by_hash_shift_(32 - static_cast<std::uint32_t>(std::countr_zero(by_hash_.size()))) {
  for (std::uint32_t k = 0; k < names_.size(); ++k) {
    const Request &request = *plan.requests[k];
    Name &name = names_[k];
    name.number = numbers.of(request.symbol);
    name.hash = request.name.index_hash;
    const auto filter = std::find(filters_.begin(), filters_.end(), request.filter.get());
    name.filter = static_cast<std::uint32_t>(filter - filters_.begin());
    if (filter == filters_.end()) filters_.push_back(request.filter.get());

    std::uint32_t &head = by_hash_[name.hash >> by_hash_shift_];
    for (std::uint32_t other = head; other != 0; other = names_[other - 1].next)
      if (names_[other - 1].number == name.number) names_[other - 1].is_shared = name.is_shared = true;
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

bool SlotFinder::choose(Problem &problem) {
  ranks_ = objects_.by_address().size();
  if (!chosen_.assign_zero(ranks_ * filters_.size())) return no_memory(problem);
  for (std::uint32_t rank = 0; rank < ranks_; ++rank) {
    const Object &object = object_at(rank);
    const char chosen = is_patch(patches_, object) ? kChosenPatch : kChosen;
    for (std::size_t f = 0; f < filters_.size(); ++f)
      if (filters_[f]->chooses(object)) chosen_[f * ranks_ + rank] = chosen;
  }
  return true;
}

// ---- from postings: in the order of names, so counted first, then dealt out ---------------------------------------------

bool SlotFinder::all_are_posted() const {
  std::span<const Posting> list;
  return std::all_of(names_.begin(), names_.end(),
                     [&](const Name &name) { return objects_.postings().find(name.number, list); });
}

bool SlotFinder::lay_out_postings(Problem &problem) {
  const auto postings_of = [&](std::uint32_t request) {
    std::span<const Posting> list;
    objects_.postings().find(names_[request].number, list);
    return list;
  };
  if (!next_.assign_zero(ranks_) || !plan_.spans.reserve(ranks_) || !span_ranks_.reserve(ranks_))
    return no_memory(problem);
  for (std::uint32_t k = 0; k < names_.size(); ++k) {
    for (const Posting posting : postings_of(k)) next_[posting.rank()] += is_chosen(k, posting.rank()) ? 1 : 0;
  }
  std::uint32_t total = 0;
  for (std::uint32_t rank = 0; rank < ranks_; ++rank) {
    const std::uint32_t count = next_[rank];
    next_[rank] = total;
    if (count == 0) continue;
    const Object &object = object_at(rank);
    (void)plan_.spans.push_back({object.id, object.path, object.image.low(), 0, total, count});
    (void)span_ranks_.push_back(rank);
    total += count;
  }
  if (!plan_.slots.reserve(total)) return no_memory(problem);
  plan_.slots.set_size(total);
  PageVector<std::uintptr_t> lows;
  if (!lows.reserve(ranks_)) return no_memory(problem);
  for (std::uint32_t rank = 0; rank < ranks_; ++rank) (void)lows.push_back(object_at(rank).image.low());
  Slot *const slots = plan_.slots.data();
  for (std::uint32_t k = 0; k < names_.size(); ++k) {
    for (const Posting posting : postings_of(k)) {
      const std::uint32_t rank = posting.rank();
      if (is_chosen(k, rank))
        slots[next_[rank]++] = {lows[rank] + posting.where, 0,     k,     0,    posting.kind(),
                                posting.is_plain(),         false, false, false, false};
      else if (!take_posting(k, posting, object_at(rank)))
        return no_memory(problem);
    }
  }
  return true;
}

// ---- object by object --------------------------------------------------------------------------------------------------

bool SlotFinder::search_object(std::uint32_t rank, Problem &problem) {
  Object &object = object_at(rank);
  bool is_meant = false, is_named = false;
  for (std::size_t f = 0; f < filters_.size(); ++f) {
    is_meant = is_meant || chosen_[f * ranks_ + rank] != 0 || filters_[f]->is_patch(object);
    is_named = is_named || filters_[f]->names(object);
  }
  if (!is_meant && is_narrow_) return true;

  bool memory = true;
  const auto visit_hash = [&](std::uint32_t hash, Image::RelocationRef reference, const char *name) {
    for (std::uint32_t next = by_hash_[hash >> by_hash_shift_]; next != 0; next = names_[next - 1].next)
      if (names_[next - 1].hash == hash && std::strcmp(name, plan_.requests[next - 1]->name.text) == 0)
        memory = memory && take(next - 1, rank, object, reference);
  };
  const bool is_fresh = !object.index.is_built;
  if (!objects_.have_index(object, problem, visit_hash)) {
    if (problem) return false;
    if (is_named) {
      problem.object = object.path;
      problem.set(Code::image_malformed, "%s was asked for as a caller and cannot be read: %s", object.path,
                  object.unreadable);
      return false;
    }
    return !is_meant || plan_.unread.push_back({object.path, object.unreadable}) || no_memory(problem);
  }
  if (is_fresh) return memory || no_memory(problem);

  const Image &image = object.image;
  constexpr std::size_t kFew = 4;  // names that are compared with all hashes faster than all hashes are looked up
  if (names_.size() <= kFew) {
    for (std::uint32_t k = 0; k < names_.size(); ++k)
      object.index.for_each(image, plan_.requests[k]->name, [&](Image::RelocationRef reference) {
        memory = memory && take(k, rank, object, reference);
      });
    return memory || no_memory(problem);
  }
  const std::uint32_t *hash = object.index.hashes;
  for (std::uint32_t r = 0; r < object.index.run_count; ++r) {
    const IndexRun run = object.index.runs[r];
    for (std::uint32_t k = 0; k < run.count; ++k, ++hash) {
      if (by_hash_[*hash >> by_hash_shift_] == 0) continue;
      const Image::RelocationRef reference = run.first + k;
      visit_hash(*hash, reference, image.symbol_name(image.relocation(reference).symbol));
    }
  }
  return memory || no_memory(problem);
}

/// A relocation of a name that was asked for.
bool SlotFinder::take(std::uint32_t request, std::uint32_t rank, const Object &object, Image::RelocationRef reference) {
  const Relocation relocation = object.image.relocation(reference);
  const bool is_plain = relocation.place % sizeof(std::uintptr_t) == 0 && relocation.has_no_addend &&
                        relocation.place - object.image.low() <= UINT32_MAX && object.image.is_data(relocation.place);
  const auto where = is_plain ? static_cast<std::uint32_t>(relocation.place - object.image.low()) : reference;
  const Posting posting = Posting::of(rank, is_plain, where, relocation.kind);
  if (!is_chosen(request, rank)) return others_.push_back({request, posting}) && take_posting(request, posting, object);

  if (is_plain)
    __builtin_prefetch(reinterpret_cast<const void *>(relocation.place));
  else if (!others_.push_back({request, posting}))
    return false;
  if (span_ranks_.empty() || span_ranks_.back() != rank) {
    const auto first = static_cast<std::uint32_t>(plan_.slots.size());
    if (!span_ranks_.push_back(rank) ||
        !plan_.spans.push_back({object.id, object.path, object.image.low(), 0, first, 0}))
      return false;
  }
  ++plan_.spans.back().count;
  return plan_.slots.push_back(
      {object.image.low() + where, 0, request, 0, relocation.kind, is_plain, false, false, false, false});
}

/// A relocation in an object that was not chosen: where that is the request's patch, calls through it lead to the original.
bool SlotFinder::take_posting(std::uint32_t request, Posting posting, const Object &object) {
  if (!posting.is_plain() || !plan_.requests[request]->filter->is_patch(object)) return true;
  const std::uintptr_t address = object.image.low() + posting.where;
  return plan_.self_slots.push_back({address, load_word(address), 0, request});
}

/// Makes postings of what was found, in one piece for each name. Where there is no memory or room, the next plan searches.
void SlotFinder::remember() {
  if (is_narrow_) return;
  std::vector<std::uint32_t>::size_type total = others_.size();
  for (const Slot &slot : plan_.slots) total += slot.is_plain ? 1 : 0;
  Postings &postings = objects_.postings();
  if (!next_.assign_zero(names_.size()) || !postings.make_room(total)) return;
  for (const Slot &slot : plan_.slots) next_[slot.redirect] += slot.is_plain ? 1 : 0;
  for (const Other &other : others_) ++next_[other.request];
  PageVector<Posting *> lists;
  if (!lists.reserve(names_.size())) return;
  for (std::uint32_t k = 0; k < names_.size(); ++k)
    (void)lists.push_back(names_[k].is_shared ? nullptr : postings.add(names_[k].number, next_[k]));
  for (std::size_t number = 0; number < plan_.spans.size(); ++number) {
    const Span &span = plan_.spans[number];
    const std::uintptr_t low = object_at(span_ranks_[number]).image.low();
    for (const Slot &slot : std::span(plan_.slots.data() + span.first, span.count))
      if (slot.is_plain && lists[slot.redirect] != nullptr)
        *lists[slot.redirect]++ =
            Posting::of(span_ranks_[number], true, static_cast<std::uint32_t>(slot.address - low), slot.kind);
  }
  for (const Other &other : others_)
    if (lists[other.request] != nullptr) *lists[other.request]++ = other.posting;
}

}  // namespace shunt::core
