// writer.hpp: puts a change's values into the slots, and takes them out again; all or nothing.
//
// One object after the other: its pages are opened, its slots written, its pages closed. (A process that has hundreds of
// mappings split at once pays half as much again for each protection change.) So a refusal may come when other objects are
// written already. Those are opened again and written back; should the kernel now refuse what it granted a moment ago, their
// words are written back through /proc/self/mem, which needs no open page.
//
// Only inside ObjectTable::while_locked(). Nothing here allocates but WriteWindows, before the first store of an object.
#pragma once

#include "engine/layers.hpp"
#include "memory/write_window.hpp"

namespace shunt::core {

/// Which of a change's spans belong to objects that are still loaded. Nothing is noted where all are.
struct Presence {
  PageVector<char> flags;
  [[nodiscard]] bool of(std::size_t span) const { return flags.empty() || flags[span] != 0; }
};

class Writer {
 public:
  /// Slots of objects that are gone are passed over.
  Writer(Change &change, const Presence &presence) : change_(change), presence_(presence) {}

  /// Every slot from what it held to the replacement, the patch's own to the originals. Stops at the first slot that holds
  /// something else (slot_changed) and at the first page that cannot be opened (protection_refused).
  bool put_in(Problem &problem);

  /// Takes back all that put_in() did.
  void undo_put_in() { undo_put_in(0, change_.self_slots.size()); }

  /// Every slot that is not covered back to what it held. One that holds something else is left alone and counted, unless it
  /// leads to the real function already.
  bool take_out(std::size_t &conflicts, Problem &problem);

  /// Takes back all that take_out() did.
  void undo_take_out() { undo_take_out(0); }

  /// Leads the own slots of a patch, which now hold `from`, to another original. `problem` when a page cannot be opened.
  bool lead_self_slots(Change &patch, std::uint32_t redirect, std::uintptr_t to, Problem &problem);

  /// False when the kernel refused to give pages back their protection.
  [[nodiscard]] bool has_restored_all() const { return has_restored_all_; }

 private:
  bool open(const Span &span, Problem &problem);
  bool open_word(std::uintptr_t address, const char *object, Problem &problem);
  bool put_in_span(const Span &span, Problem &problem);
  void tell_changed(std::uintptr_t address, std::uint32_t redirect, const char *object, std::uintptr_t expected,
                    std::uintptr_t found, Problem &problem);
  void undo_put_in(std::size_t first_span, std::size_t self_slots);
  void undo_take_out(std::size_t first_span);
  static void put_back(std::uintptr_t address, std::uintptr_t from, std::uintptr_t to, bool is_open);
  void close();

  Change &change_;
  const Presence &presence_;
  bool has_restored_all_ = true;
  WriteWindows windows_;
};

}  // namespace shunt::core
