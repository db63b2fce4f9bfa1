// entry.hpp: one function whose entry is, was, or can be redirected.
#pragma once

#include <cstdint>

#include "arch/code.hpp"

namespace shunt::core {

struct Entry {
  std::uintptr_t function = 0;
  arch::EntryPlan plan;
  const char *object = "", *symbol = "";

  std::uintptr_t trampoline = 0;                     // 0: given back
  std::uint32_t trampoline_size = 0, code_size = 0;  // taken, and filled with code
  std::uintptr_t stub = 0;
  std::uintptr_t stub_target = 0;  // 0: never written
  std::uint8_t *frame = nullptr;   // registered with the unwinder
  bool is_written = false;         // the trampoline can be called

  std::uintptr_t target = 0;  // where calls go; 0: the function itself
  bool uses_stub = false;
  /// The padding holds a jump, though no call comes there any more: a thread might.
  bool padding_is_left = false;
  arch::CodeBytes at_entry, at_padding;  // what stands there now

  std::uint32_t originals = 0, saved = 0;            // the function's first bytes, as they were, in Entries::originals_
  std::uint32_t boundaries = 0, boundary_count = 0;  // in Entries::boundaries_
  std::uint32_t originals_room = 0, boundaries_room = 0;
  bool is_free = false;  // the record is nobody's, and may become another function's
  arch::CodeBytes original_padding;
  arch::CodeBytes original_entry;

  [[nodiscard]] std::uintptr_t site() const { return function + plan.site; }
  /// The first change needs a breakpoint, since a thread can be inside.
  [[nodiscard]] bool needs_breakpoint() const { return plan.has_inner_boundary || plan.copies_body; }
  [[nodiscard]] bool is_in_padding() const { return plan.form == arch::JumpForm::in_padding; }
};

}  // namespace shunt::core
