#include "engine/writer.hpp"

namespace shunt::core {

bool Writer::open(const Span &span, Problem &problem) {
  const Slot *const slots = change_.slots.data() + span.first;
  return windows_.open(
      span.low, span.high, span.count, [slots](std::size_t k) { return slots[k].address; }, span.path, problem);
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
    undo_put_in(0, k);
    return false;
  }
  for (std::size_t k = 0; k < change_.spans.size(); ++k) {
    if (k + 1 < change_.spans.size())
      for (const Slot &slot : change_.slots_in(change_.spans[k + 1]))
        __builtin_prefetch(reinterpret_cast<const void *>(slot.address));
    if (put_in_span(change_.spans[k], problem)) continue;
    undo_put_in(k, change_.self_slots.size());
    return false;
  }
  return true;
}

bool Writer::put_in_span(const Span &span, Problem &problem) {
  if (!open(span, problem)) {
    close();
    return false;
  }
  const std::span<Slot> slots = change_.slots_in(span);
  std::size_t done = 0;
  std::uintptr_t found = 0;
  for (; done < slots.size(); ++done) {
    Slot &slot = slots[done];
    const std::uintptr_t function = slot.is_lazy ? change_.redirects[slot.redirect].function : 0;
    if (!change_word(slot.address, slot.before, after(slot), function, found)) break;
    slot.before = found;
  }
  const bool is_done = done == slots.size();
  if (!is_done) {
    tell_changed(slots[done].address, slots[done].redirect, span.path, slots[done].before, found, problem);
    while (done-- > 0) put_back(slots[done].address, after(slots[done]), slots[done].before, true);
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

void Writer::undo_put_in(std::size_t spans, std::size_t self_slots) {
  while (spans-- > 0) {
    const Span &span = change_.spans[spans];
    Problem refused;
    const bool is_open = open(span, refused);
    for (const Slot &slot : change_.slots_in(span)) put_back(slot.address, after(slot), slot.before, is_open);
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
  for (std::size_t k = 0; k < change_.spans.size(); ++k) {
    if (is_loaded_[k] == 0) continue;
    const Span &span = change_.spans[k];
    if (!open(span, problem)) {
      close();
      undo_take_out(k);
      return false;
    }
    for (const Slot &slot : change_.slots_in(span)) {
      std::uintptr_t found = 0;
      if (slot.is_covered || change_word(slot.address, after(slot), slot.before, 0, found)) continue;
      if (found != slot.before && found != change_.redirects[slot.redirect].function) ++conflicts;
    }
    close();
  }
  return true;
}

void Writer::undo_take_out(std::size_t spans) {
  while (spans-- > 0) {
    if (is_loaded_[spans] == 0) continue;
    const Span &span = change_.spans[spans];
    Problem refused;
    const bool is_open = open(span, refused);
    for (const Slot &slot : change_.slots_in(span))
      if (!slot.is_covered) put_back(slot.address, slot.before, after(slot), is_open);
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
