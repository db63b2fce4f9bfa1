// text_flip.hpp: changes code without a page ever being writable and executable.
//
// The pages are copied to a file in memory, changed there, and the file is mapped over them, readable and executable: one system
// call for all pages that follow each other, after which every thread runs the new bytes, and before which every thread ran the
// old ones. mprotect is not used, so this works under PR_SET_MDWE and where a sandbox forbids mprotect. It needs /proc/self/maps,
// memfd_create and mmap with PROT_EXEC, and refuses where one of them is missing.
//
// What it does not do: a thread that stands inside bytes that change goes on in the new ones, in the middle of an instruction
// perhaps. Who is where is the caller's question.
//
// Only pages that are private, readable, executable and not writable are changed. Others are refused: pages that can be written
// while they are executed belong to a compiler at run time, which would not see its writes any more; a shared mapping's other
// side would not see ours.
//
// Pages that came from a file and hold what they held there again are mapped from the file again, and so shared with other
// processes once more. That is done only while the file still is the same one and holds the very bytes. In /proc/self/maps such
// a page stays a line of its own: the kernel joins only what was mapped through one descriptor.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/error.hpp"
#include "base/page_vector.hpp"
#include "memory/map_lines.hpp"

namespace shunt::core {

struct TextChange {
  std::uintptr_t address = 0;
  std::size_t size = 0;
  const std::uint8_t *expected = nullptr;  // what lies there now; NULL: whatever it is
  const std::uint8_t *bytes = nullptr;
  const char *object = "", *symbol = "";  // for a Problem
};

class TextFlip {
 public:
  /// Makes all changes or none, which must be sorted by address and not overlap. Pages that follow each other change at once;
  /// groups of pages one after the other, in order of address. One thread at a time; nobody unmaps the pages meanwhile.
  /// Errors: code_changed (one of them is not what was expected), code_page_refused, out_of_memory, system.
  bool flip(std::span<const TextChange> changes, Problem &problem);

  /// How many pages are copies that can go back to their file.
  [[nodiscard]] std::size_t pages_away() const { return origins_.size(); }

 private:
  /// Pages that follow each other, and what becomes of them.
  struct Run {
    std::uintptr_t begin, end;
    std::size_t first_change, changes;
    int copies;  // a file in memory: the pages as they shall be, and behind them as they were
  };
  /// Where a page came from: as the map names the file, and as stat() does (on some file systems they disagree).
  struct Origin {
    std::uintptr_t page;
    std::uint64_t offset, inode;
    std::uint32_t device_major, device_minor;
    std::uint64_t file_device, file_inode;
    std::uint64_t copy_inode;  // of the file in memory that it is mapped from instead
  };

  bool read_map(const TextChange &change, Problem &problem);
  bool make_runs(std::span<const TextChange> changes, Problem &problem);
  bool check_pages(const Run &run, const TextChange &change, Problem &problem) const;
  bool copy(Run &run, std::span<const TextChange> changes, Problem &problem);
  bool replace(const Run &run, const TextChange &change, Problem &problem) const;
  bool replace_all(std::span<const TextChange> changes, Problem &problem);
  void note_origins(const Run &run);
  bool find_origin(std::uintptr_t page, const MapLine &line, Origin &origin);
  void keep_origins(const Run &run);
  void return_to_files(const Run &run);
  Origin *origin_of(std::uintptr_t page);
  [[nodiscard]] const MapLine *line_of(std::uintptr_t address) const;

  PageVector<char> map_text_;  // /proc/self/maps before the flip
  PageVector<MapLine> map_;    // by address
  PageVector<Run> runs_;
  PageVector<Origin> origins_, noted_;
};

}  // namespace shunt::core
