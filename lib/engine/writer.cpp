#include "engine/writer.hpp"

namespace shunt::core {

bool Writer::open(const Span &span, Problem &problem) {
  const Slot *const slots = change_.list.slots.data() + span.first;
  return windows_.open(
      span.low, span.high, span.count, [&](std::size_t k) { return span.base + slots[k].where; }, span.path, problem);
}

bool Writer::open_word(std::uintptr_t address, const char *object, Problem &problem) {
  return windows_.open(
      address, address, 1, [address](std::size_t) { return address; }, object, problem);
}

/// The pages as they were. A kernel that opened them and now refuses that leaves them writable; the engine says so.
void Writer::close() { has_restored_all_ = windows_.close() && has_restored_all_; }

// ---- in --------------------------------------------------------------------------------------------------------------

bool Writer::put_in(Problem &problem) {
  for (std::size_t k = 0; k < change_.self_slots.size(); ++k) {
    const SelfSlot &slot = change_.self_slots[k];
    std::uintptr_t found = slot.before;
    const bool written =
        open_word(slot.address, "the patch", problem) && change_word(slot.address, slot.before, slot.after, 0, found);
    close();
    if (written) continue;
    tell_changed(slot.address, slot.redirect, "the patch", slot.before, found, problem);
    undo_put_in(change_.list.spans.size(), k);
    return false;
  }
  // The last first: they were just read, and are still in the cache.
  for (std::size_t k = change_.list.spans.size(); k-- > 0;) {
    if (put_in_span(change_.list.spans[k], problem)) continue;
    undo_put_in(k + 1, change_.self_slots.size());
    return false;
  }
  return true;
}

bool Writer::put_in_span(const Span &span, Problem &problem) {
  if (!open(span, problem)) {
    close();
    return false;
  }
  const std::span<Slot> slots = change_.list.in(span);
  std::size_t done = 0;
  std::uintptr_t found = 0;
  for (; done < slots.size(); ++done) {
    Slot &slot = slots[done];
    const std::uintptr_t address = span.base + slot.where;
    const ChangeRedirect &redirect = change_.redirects[slot.redirect];
    if (!slot.is_odd) {
      if (!compare_and_store(address, redirect.function, redirect.replacement, found)) break;
      continue;
    }
    // The dynamic linker may have bound the slot since the plan was made.
    if (!change_word(address, change_.before(slot), change_.after(slot), slot.is_lazy ? redirect.function : 0, found))
      break;
    change_.list.odd_of(slot).before = found;
  }
  const bool is_done = done == slots.size();
  if (!is_done) {
    const Slot &slot = slots[done];
    tell_changed(span.base + slot.where, slot.redirect, span.path, change_.before(slot), found, problem);
    while (done-- > 0)
      put_back(span.base + slots[done].where, change_.after(slots[done]), change_.before(slots[done]), true);
  }
  close();
  return is_done;
}

void Writer::tell_changed(std::uintptr_t address, std::uint32_t redirect, const char *object, std::uintptr_t expected,
                          std::uintptr_t found, Problem &problem) {
  if (problem) return;  // its page could not be opened
  problem.object = object;
  problem.symbol = change_.redirects[redirect].request->symbol.c_str();
  problem.address = address;
  problem.set(
      Code::slot_changed,
      "the slot of '%s' at %#lx in %s held %#lx when the plan was made and holds %#lx now: somebody else changed it",
      problem.symbol, address, object, expected, found);
}

/// Of the objects from `first_span` on and the first `self_slots`.
void Writer::undo_put_in(std::size_t first_span, std::size_t self_slots) {
  for (std::size_t k = first_span; k < change_.list.spans.size(); ++k) {
    const Span &span = change_.list.spans[k];
    Problem refused;
    const bool is_open = open(span, refused);
    for (const Slot &slot : change_.list.in(span))
      put_back(span.base + slot.where, change_.after(slot), change_.before(slot), is_open);
    close();
  }
  while (self_slots-- > 0) {
    const SelfSlot &slot = change_.self_slots[self_slots];
    Problem refused;
    const bool is_open = open_word(slot.address, "the patch", refused);
    put_back(slot.address, slot.after, slot.before, is_open);
    close();
  }
}

void Writer::put_back(std::uintptr_t address, std::uintptr_t from, std::uintptr_t to, bool is_open) {
  std::uintptr_t found = 0;
  if (is_open)
    change_word(address, from, to, 0, found);
  else if (load_word(address) == from)
    write_through_kernel(address, to);
}

// ---- out -------------------------------------------------------------------------------------------------------------

bool Writer::take_out(std::size_t &conflicts, Problem &problem) {
  conflicts = 0;
  for (std::size_t k = change_.list.spans.size(); k-- > 0;) {  // so that the first are in the cache for the next plan
    if (!presence_.of(k)) continue;
    const Span &span = change_.list.spans[k];
    if (!open(span, problem)) {
      close();
      undo_take_out(k + 1);
      return false;
    }
    for (const Slot &slot : change_.list.in(span)) {
      const ChangeRedirect &redirect = change_.redirects[slot.redirect];
      const std::uintptr_t address = span.base + slot.where;
      std::uintptr_t found = 0;
      if (slot.is_covered) continue;
      if (!slot.is_odd && compare_and_store(address, redirect.replacement, redirect.function, found)) continue;
      if (slot.is_odd && compare_and_store(address, change_.after(slot), change_.before(slot), found)) continue;
      if (found != change_.before(slot) && found != redirect.function) ++conflicts;
    }
    close();
  }
  return true;
}

void Writer::undo_take_out(std::size_t first_span) {
  for (std::size_t k = first_span; k < change_.list.spans.size(); ++k) {
    if (!presence_.of(k)) continue;
    const Span &span = change_.list.spans[k];
    Problem refused;
    const bool is_open = open(span, refused);
    for (const Slot &slot : change_.list.in(span))
      if (!slot.is_covered) put_back(span.base + slot.where, change_.before(slot), change_.after(slot), is_open);
    close();
  }
}

bool Writer::lead_self_slots(Change &patch, std::uint32_t redirect, std::uintptr_t to, Problem &problem) {
  bool is_open = true;
  for (SelfSlot &slot : patch.self_slots) {
    if (slot.redirect != redirect || !is_open) continue;
    std::uintptr_t found = 0;
    is_open = open_word(slot.address, "a patch", problem);
    if (is_open) change_word(slot.address, slot.after, to, 0, found);
    close();
    if (is_open) slot.after = to;
  }
  return is_open;
}

}  // namespace shunt::core
