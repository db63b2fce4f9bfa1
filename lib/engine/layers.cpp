#include "engine/layers.hpp"

#include <algorithm>

namespace shunt::core {

void Change::set_original(std::size_t k, std::uintptr_t original) {
  __atomic_store_n(&redirects[k].original, original, __ATOMIC_RELEASE);
  if (std::uintptr_t *cell = redirects[k].request->original_cell) __atomic_store_n(cell, original, __ATOMIC_RELEASE);
}

std::size_t Change::entry_count() const {
  return static_cast<std::size_t>(std::count_if(redirects.begin(), redirects.end(),
                                                [](const ChangeRedirect &redirect) { return redirect.has_entry(); }));
}

const std::vector<Layer> &Layers::over(std::string_view symbol) const {
  static const std::vector<Layer> kNone;
  const auto found = by_symbol_.find(symbol);
  return found != by_symbol_.end() ? found->second : kNone;
}

Layers::Place Layers::place_of(const Layer &layer) {
  return {layer.change->order, *layer->request, layer->function,
          layer.change->list,  layer.redirect,  layer->has_entry()};
}

namespace {

/// Do the slots of `layer` include those of the place? Where that has none (dlsym() leads to it), the callers tell.
bool covers_slots(const Layer &layer, const Layers::Place &place) {
  bool has_slots = false;
  const bool covers = std::all_of(place.slots.spans.begin(), place.slots.spans.end(), [&](const Span &span) {
    const auto all = place.slots.in(span);
    return std::all_of(all.begin(), all.end(), [&](const Slot &slot) {
      has_slots = has_slots || slot.redirect == place.redirect;
      return slot.redirect != place.redirect || layer.slot_at(span.base + slot.where) != nullptr;
    });
  });
  return covers && (has_slots || place.request.filter->is_within(*layer->request->filter));
}

}  // namespace

std::uintptr_t Layers::original_of(const Place &place, const Change *leaving) const {
  const auto is_below = [&](const Layer &layer) {
    return layer.change != leaving && layer.change->order < place.order;
  };
  const Layer *found = nullptr;
  std::uintptr_t bottom = place.function;
  if (const auto entries = by_entry_.find(place.function); entries != by_entry_.end()) {
    for (const Layer &layer : entries->second) {
      if (layer.change != leaving) bottom = layer->trampoline;
      if (is_below(layer)) found = &layer;
    }
  }
  if (!place.has_entry) {
    const std::vector<Layer> &layers = over(place.request.symbol);
    for (std::size_t k = layers.size(); k-- > 0;) {
      const Layer &layer = layers[k];
      if (!is_below(layer)) continue;
      if (found != nullptr && found->change->order > layer.change->order) break;
      if (!covers_slots(layer, place)) continue;
      found = &layer;
      break;
    }
  }
  return found != nullptr ? (*found)->replacement : bottom;
}

std::vector<Layers::NewOriginal> Layers::originals_with(const Change &change) const {
  std::vector<NewOriginal> changed;
  for (const ChangeRedirect &redirect : change.redirects) {
    if (!redirect.has_entry()) continue;
    for (Change *other : changes_) {
      for (std::uint32_t k = 0; k < other->redirects.size() && other != &change; ++k) {
        const Layer layer{other, k};
        if (!layer->is_active() || layer->function != redirect.function) continue;
        const std::uintptr_t original = original_of(place_of(layer));
        if (original != layer->original) changed.push_back({layer, layer->original, original});
      }
    }
  }
  return changed;
}

std::vector<Layers::NewOriginal> Layers::originals_without(const Change &change) const {
  std::vector<NewOriginal> changed;
  const auto look_at = [&](const Layer &layer) {
    if (layer.change == &change || !layer->is_active()) return;
    const std::uintptr_t original = original_of(place_of(layer), &change);
    if (original != layer->original) changed.push_back({layer, layer->original, original});
  };
  for (std::uint32_t k = 0; k < change.redirects.size(); ++k) {
    const ChangeRedirect &redirect = change.redirects[k];
    if (redirect.has_entry()) {
      for (Change *other : changes_)
        for (std::uint32_t n = 0; n < other->redirects.size(); ++n)
          if (other->redirects[n].function == redirect.function) look_at({other, n});
      continue;
    }
    const std::vector<Layer> &layers = over(redirect.request->symbol);
    for (auto layer =
             std::find_if(layers.begin(), layers.end(), [&](const Layer &one) { return one.change == &change; });
         layer != layers.end(); ++layer)
      look_at(*layer);
  }
  return changed;
}

Layer Layers::entry_over(std::uintptr_t function, const Change *leaving) const {
  Layer newest;
  if (const auto found = by_entry_.find(function); found != by_entry_.end())
    for (const Layer &layer : found->second)
      if (layer.change != leaving) newest = layer;
  return newest;
}

void Layers::forget_entry(std::uintptr_t function) {
  const auto found = by_entry_.find(function);
  if (found == by_entry_.end()) return;
  for (const Layer &layer : found->second) layer->trampoline = 0;
  by_entry_.erase(found);
}

std::uintptr_t Layers::top_of(const std::vector<Layer> &layers, std::uintptr_t address, std::uintptr_t value) {
  for (std::size_t k = layers.size(); k-- > 0;)
    if (const Slot *slot = layers[k].slot_at(address)) return layers[k].change->after(*slot);
  return value;
}

void Layers::add(Change &change) {
  change.order = next_order_++;
  if (by_symbol_.empty()) hashes_ = HashSet();
  for (std::uint32_t k = 0; k < change.redirects.size(); ++k) {
    const ChangeRedirect &redirect = change.redirects[k];
    if (redirect.is_active()) {
      by_symbol_[redirect.request->symbol].push_back({&change, k});
      hashes_.insert(index_hash(redirect.request->name));
    }
    if (redirect.has_entry()) by_entry_[redirect.function].push_back({&change, k});
  }
  changes_.push_back(&change);
}

void Layers::remove(Change &change) {
  const auto remove_from = [&](auto &map, const auto &key) {
    const auto found = map.find(key);
    if (found == map.end()) return;
    std::erase_if(found->second, [&](const Layer &layer) { return layer.change == &change; });
    if (found->second.empty()) map.erase(found);
  };
  for (const ChangeRedirect &redirect : change.redirects) {
    remove_from(by_symbol_, redirect.request->symbol);
    if (redirect.has_entry()) remove_from(by_entry_, redirect.function);
  }
  std::erase(changes_, &change);
}

}  // namespace shunt::core
