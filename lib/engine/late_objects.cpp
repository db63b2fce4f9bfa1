#include "engine/late_objects.hpp"

#include <algorithm>
#include <cerrno>
#include <tuple>
#include <utility>

#include "engine/writer.hpp"

namespace shunt::core {

namespace {

/// It may go better the next time.
bool may_pass(const Problem &problem) {
  const int number = problem.sys_errno;
  return problem.code == Code::out_of_memory || number == ENOMEM || number == EMFILE || number == ENFILE;
}

}  // namespace

LateObjects::News LateObjects::news() { return std::exchange(news_, {}); }

ObjectId LateObjects::adopt(ObjectId from) {
  ObjectId again = objects_.next_id();
  if (layers_.changes().empty()) return again;
  for (Object &object : objects_.in_load_order()) {
    if (object.id < from || !object.is_readable || object.is_own) continue;
    Problem problem;
    adopt_object(object, problem);
    if (!problem) continue;
    if (may_pass(problem)) again = std::min(again, object.id);
    if (!news_.problem) news_.problem = problem;
  }
  return again;
}

void LateObjects::adopt_object(Object &object, Problem &problem) {
  hits_.clear();
  const auto visit = [&](IndexHash, Image::RelocationRef reference, const char *name) {
    const std::vector<Layer> &layers = layers_.over(std::string_view(name));
    if (!layers.empty()) take(object, reference, layers, problem);
  };
  const bool is_fresh = !object.index.is_built;
  if (!objects_.have_index(object, nullptr, layers_.hashes(), visit, problem)) return;
  if (!is_fresh)
    object.index.for_each_in(layers_.hashes(), [&](IndexHash hash, Image::RelocationRef reference) {
      visit(hash, reference, object.image.symbol_name(object.image.relocation(reference).symbol));
    });
  if (problem || hits_.empty()) return;
  bool has_room = true;
  by_change([&](std::span<const Hit> hits) { has_room = has_room && have_room(hits); });
  if (!has_room)
    return problem.set(Code::out_of_memory, "no memory for the slots of %s, which was loaded", object.path);
  if (!write(object, problem)) return;
  by_change([&](std::span<const Hit> hits) { record(object, hits); });
  lead_originals({hits_.begin(), hits_.end()}, problem);
}

/// The hits of each change, in ascending order of address.
template <class Visit>
void LateObjects::by_change(Visit visit) {
  std::sort(hits_.begin(), hits_.end(), [](const Hit &a, const Hit &b) {
    return std::tuple(a.change->order, a.place) < std::tuple(b.change->order, b.place);
  });
  for (const Hit *first = hits_.begin(); first != hits_.end();) {
    const Hit *last = first;
    while (last != hits_.end() && last->change == first->change) ++last;
    visit(std::span(first, last));
    first = last;
  }
}

/// A relocation of a symbol that layers lie over.
void LateObjects::take(Object &object, Image::RelocationRef reference, const std::vector<Layer> &layers,
                       Problem &problem) {
  const Relocation relocation = object.image.relocation(reference);
  const std::uintptr_t where = relocation.place - object.image.low();
  const auto addend = static_cast<std::int16_t>(relocation.kind == arch::RelocKind::absolute ? relocation.addend : 0);
  if (relocation.place % sizeof(std::uintptr_t) != 0 || !object.image.is_data(relocation.place) || where > UINT32_MAX ||
      (relocation.kind == arch::RelocKind::absolute && addend != relocation.addend))
    return;
  std::uintptr_t value = load_word(relocation.place), function = 0;
  bool is_lazy = false;
  for (const Layer &layer : layers) {
    if (const Slot *const own = layer.slot_at(relocation.place)) {  // a change that was there when the object came
      function = layer->function;
      value = layer.change->after(*own);
      continue;
    }
    if (!takes(layer, object, relocation)) continue;
    if (function == 0) function = function_at(object, relocation, value, layers, is_lazy);
    if (function == 0 || layer->function != function) continue;
    Hit hit = {};
    hit.change = layer.change;
    hit.place = relocation.place;
    hit.before = value;
    hit.after = layer->replacement + static_cast<std::uintptr_t>(std::intptr_t{addend});
    hit.addend = addend;
    hit.slot.where = static_cast<std::uint32_t>(where);
    hit.slot.redirect = layer.redirect & (kMostRedirects - 1);
    hit.slot.kind = relocation.kind;
    hit.slot.is_late = relocation.kind == arch::RelocKind::jump_slot && !object.image.binds_at_start();
    hit.slot.is_lazy = is_lazy;
    hit.slot.is_odd = value != function || addend != 0;
    value = hit.after;
    if (!hits_.push_back(hit)) {
      return problem.set(Code::out_of_memory, "no memory for the slots of %s, which was loaded", object.path);
    }
  }
}

/// What the slot leads to, or will when it is bound; 0 when that is none of the functions that the layers are over.
std::uintptr_t LateObjects::function_at(Object &object, const Relocation &relocation, std::uintptr_t value,
                                        const std::vector<Layer> &layers, bool &is_lazy) {
  const auto addend = static_cast<std::uintptr_t>(relocation.kind == arch::RelocKind::absolute ? relocation.addend : 0);
  for (const Layer &layer : layers)
    if (layer->function == value - addend) return layer->function;
  is_lazy =
      relocation.kind == arch::RelocKind::jump_slot && objects_.at(value) == &object && object.image.is_code(value);
  if (!is_lazy) return 0;
  const Definition definition =
      Resolver(objects_, patches_)
          .search(object, layers.front()->request->name, needed_version(object.image, relocation.symbol));
  return definition.state == Definition::State::found ? definition.address : 0;
}

bool LateObjects::takes(const Layer &layer, const Object &object, const Relocation &relocation) const {
  const Request &asked = *layer->request;
  if (object.id < layer.change->objects_below || asked.reach == Reach::entry || !asked.filter->chooses(object) ||
      replaces(patches_, object, asked.symbol))
    return false;
  const char *const version = asked.version.empty() ? nullptr : needed_version(object.image, relocation.symbol);
  return asked.version.empty() || (version != nullptr && asked.version == version);
}

/// Writes each slot once, and leaves in hits_ those that were.
bool LateObjects::write(const Object &object, Problem &problem) {
  std::sort(hits_.begin(), hits_.end(), [](const Hit &a, const Hit &b) {
    return std::tuple(a.place, a.change->order) < std::tuple(b.place, b.change->order);
  });
  WriteWindows windows;
  if (!windows.open(
          hits_[0].place, hits_.back().place, hits_.size(), [&](std::size_t k) { return hits_[k].place; }, object.path,
          problem))
    return false;
  Hit *kept = hits_.begin();
  for (Hit *first = hits_.begin(); first != hits_.end();) {
    Hit *last = first;
    while (last + 1 != hits_.end() && last[1].place == first->place) ++last;
    std::uintptr_t found = 0;
    if (compare_and_store(first->place, first->before, last->after, found)) {
      kept = std::copy(first, last + 1, kept);
      news_.slots += 1;
    }
    first = last + 1;
  }
  hits_.set_size(static_cast<std::size_t>(kept - hits_.begin()));
  return !hits_.empty();
}

bool LateObjects::have_room(std::span<const Hit> hits) {
  SlotList &list = hits.front().change->list;
  return list.slots.reserve(list.slots.size() + hits.size()) && list.odd.reserve(list.odd.size() + hits.size()) &&
         list.spans.reserve(list.spans.size() + 1);
}

/// The slots of one change become its own: have_room() came before.
void LateObjects::record(const Object &object, std::span<const Hit> hits) {
  Change &change = *hits.front().change;
  SlotList &list = change.list;
  const auto first = static_cast<std::uint32_t>(list.slots.size());
  const auto count = static_cast<std::uint32_t>(hits.size());
  for (const Hit &hit : hits) {
    if (hit.slot.is_odd)
      static_cast<void>(list.odd.push_back({hit.before, static_cast<std::uint32_t>(list.slots.size()), hit.addend}));
    static_cast<void>(list.slots.push_back(hit.slot));
    change.redirects[hit.slot.redirect].slots += 1;
    change.has_late = change.has_late || hit.slot.is_late;
  }
  const std::uintptr_t base = object.image.low();
  const Span span = {object.id, object.path, base, hits.front().place, hits.back().place, first, count};
  const auto position =
      static_cast<std::size_t>(std::lower_bound(list.spans.begin(), list.spans.end(), span.low,
                                                [](const Span &one, std::uintptr_t low) { return one.low < low; }) -
                               list.spans.begin());
  static_cast<void>(list.spans.push_back(span));
  std::rotate(list.spans.begin() + position, list.spans.end() - 1, list.spans.end());
}

/// A layer that covered all slots of one above it may not cover the new ones.
void LateObjects::lead_originals(std::span<const Hit> hits, Problem &problem) {
  for (const Hit &hit : hits) {
    const ChangeRedirect &redirect = hit.change->redirects[hit.slot.redirect];
    const std::vector<Layer> &layers = layers_.over(redirect.request->symbol);
    if (layers.size() < 2) continue;
    for (const Layer &layer : layers) {
      const std::uintptr_t original = layers_.original_of(Layers::place_of(layer));
      if (original == layer->original) continue;
      const Presence all;
      Writer writer(*layer.change, all);
      if (writer.lead_self_slots(*layer.change, layer.redirect, original, problem))
        layer.change->set_original(layer.redirect, original);
    }
  }
}

// ---- what is gone ------------------------------------------------------------------------------------------------------

void LateObjects::drop_gone() {
  for (Object &object : objects_.in_load_order())
    if (std::exchange(object.is_read_anew, false) && is_another_loading(object)) objects_.renew(object);
  const bool are_all_told = objects_.take_gone([this](const GoneObject &gone) {
    for (Change *const change : layers_.changes()) {
      PageVector<Span> &spans = change->list.spans;
      Span *span = std::lower_bound(spans.begin(), spans.end(), gone.low,
                                    [](const Span &one, std::uintptr_t low) { return one.low < low; });
      while (span != spans.end() && span->low < gone.high)
        if (span->object == gone.id)
          drop(*change, *span);
        else
          ++span;
    }
  });
  if (are_all_told) return;
  for (Change *const change : layers_.changes())
    for (Span *span = change->list.spans.begin(); span != change->list.spans.end();)
      if (objects_.with_id(span->object) == nullptr)
        drop(*change, *span);
      else
        ++span;
}

/// The next span takes its place.
void LateObjects::drop(Change &change, const Span &span) {
  for (const Slot &slot : change.list.in(span)) change.redirects[slot.redirect].slots -= 1;
  change.list.remove(span);
}

/// Nothing of what was written into it is there, but what the dynamic linker writes: it was unloaded, and loaded again at the same place.
bool LateObjects::is_another_loading(const Object &object) const {
  bool is_fresh = false;
  for (const Change *const change : layers_.changes()) {
    for (const Span &span : change->list.spans) {
      if (span.object != object.id) continue;
      for (const Slot &slot : change->list.in(span)) {
        const std::uintptr_t address = span.base + slot.where;
        const ChangeRedirect &redirect = change->redirects[slot.redirect];
        const std::uintptr_t value = load_word(address);
        if (value == Layers::top_of(layers_.over(redirect.request->symbol), address, change->after(slot))) return false;
        is_fresh =
            is_fresh || value == redirect.function || object.image.is_code(value);  // a stub that is not bound yet
      }
    }
  }
  return is_fresh;
}

}  // namespace shunt::core
