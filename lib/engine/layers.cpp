#include "engine/layers.hpp"

#include <algorithm>

namespace shunt::core {

void Change::set_original(std::size_t k, std::uintptr_t original) {
  __atomic_store_n(&redirects[k].original, original, __ATOMIC_RELEASE);
  if (std::uintptr_t *cell = redirects[k].request->original_cell) __atomic_store_n(cell, original, __ATOMIC_RELEASE);
}

const std::vector<Layer> &Layers::over(const std::string &symbol) const {
  static const std::vector<Layer> kNone;
  const auto found = by_symbol_.find(symbol);
  return found != by_symbol_.end() ? found->second : kNone;
}

std::uintptr_t Layers::original_over(const std::vector<Layer> &layers, std::size_t below, const SlotList &slots,
                                     std::uint32_t redirect, std::uintptr_t function, const Change *leaving) {
  while (below-- > 0) {
    const Layer &layer = layers[below];
    if (layer.change == leaving) continue;
    const bool covers_all = std::all_of(slots.spans.begin(), slots.spans.end(), [&](const Span &span) {
      const auto all = slots.in(span);
      return std::all_of(all.begin(), all.end(), [&](const Slot &slot) {
        return slot.redirect != redirect || layer.slot_at(span.base + slot.where) != nullptr;
      });
    });
    if (covers_all) return layer->replacement;
  }
  return function;
}

std::uintptr_t Layers::top_of(const std::vector<Layer> &layers, std::uintptr_t address, std::uintptr_t value) {
  for (std::size_t k = layers.size(); k-- > 0;)
    if (const Slot *slot = layers[k].slot_at(address)) return layers[k].change->after(*slot);
  return value;
}

void Layers::add(Change &change) {
  for (std::uint32_t k = 0; k < change.redirects.size(); ++k)
    if (change.redirects[k].slots > 0) by_symbol_[change.redirects[k].request->symbol].push_back({&change, k});
  changes_.push_back(&change);
}

void Layers::remove(Change &change) {
  for (const ChangeRedirect &redirect : change.redirects) {
    const auto found = by_symbol_.find(redirect.request->symbol);
    if (found == by_symbol_.end()) continue;
    std::erase_if(found->second, [&](const Layer &layer) { return layer.change == &change; });
    if (found->second.empty()) by_symbol_.erase(found);
  }
  std::erase(changes_, &change);
}

}  // namespace shunt::core
