// change.hpp: one commit() of Entries, from the first flip to the last.
#pragma once

#include "entry/entries.hpp"

namespace shunt::core {

class EntryChange {
 public:
  /// `own_sp`: above it are the frames of whoever asked for the change.
  EntryChange(Entries &entries, std::uintptr_t own_sp, std::uint64_t wait_ns, EntryReport &report, Problem &problem)
      : entries_(entries), own_sp_(own_sp), wait_ns_(wait_ns), report_(report), problem_(problem) {}

  bool run(std::span<EntryStep> steps);

 private:
  /// What becomes of one entry.
  struct Move {
    Entry *entry;
    std::uintptr_t target;
    bool uses_stub;
    bool arms;                             // by way of a breakpoint
    arch::CodeBytes at_entry, at_padding;  // size 0: as it is
    std::uintptr_t stub_target;            // 0: as it is
  };
  /// Bytes to write, with what is there now.
  struct Piece {
    std::uintptr_t address;
    std::uint32_t size;
    bool is_compared;
    std::uint8_t now[16], then[16];
    const std::uint8_t *unchanged;  // compared and not changed: longer than the above
    const Entry *entry;
  };

  bool add(EntryStep &step);
  bool is_conflict(const Entry &entry) const;
  bool write_free_stubs();
  bool set_breakpoints();
  void take_breakpoints_back();
  bool ask_for_breakpoints();
  bool write_targets();
  void note();
  void settle_padding();
  bool ask(std::span<CodeRange> ranges, int needed, const Entry &first);
  bool add_piece(const Piece &piece);
  bool add_piece(const Entry &entry, const arch::CodeBytes &now, const arch::CodeBytes &then);
  bool add_stub(const Move &move);
  bool flip(Problem &problem);

  Entries &entries_;
  const std::uintptr_t own_sp_;
  const std::uint64_t wait_ns_;
  EntryReport &report_;
  Problem &problem_;
  PageVector<Move> moves_;
  PageVector<Piece> pieces_;
  PageVector<TextChange> changes_;
  PageVector<CodeRange> ranges_;
  Question question_;
  bool is_open_ = false;
  std::uint64_t hits_before_ = 0, armed_at_ = 0;
};

}  // namespace shunt::core
