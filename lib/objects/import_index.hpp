// import_index.hpp: for one object, every relocation that may be a slot, by the name of its symbol. Built in one pass over
// the relocations when an object is first looked at; every later plan reads the index and the slots, and nothing else: an
// object's relocations, symbols and names lie in a dozen pages, and fetching those again for each plan is what costs.
//
// A name is compared once. The entry then carries the number of that name instead of its hash, and later plans for the same
// name compare numbers. Names whose hashes collide are always told apart.
//
// Memory: 12 bytes for a slot and up to 2 for its share of the buckets, in pages of our own (the loader's lock is held while
// this is built, so malloc is out of reach). The limit is 16 bytes a slot and 1 KiB an object.
//
//   starts[bucket] .. starts[bucket + 1]   the entries whose hash has this bucket in its upper bits
#pragma once

#include <cstdint>
#include <cstring>

#include "base/page_vector.hpp"
#include "elf/image.hpp"
#include "elf/symbols.hpp"

namespace shunt::core {

struct IndexEntry {
  std::uint32_t key;     // hash of the name; once the name was compared, its number
  std::uint32_t offset;  // of the slot, from the object's lowest address
  std::uint32_t bits;

  static constexpr std::uint32_t kIsNumber = 1U << 31;  // key is a name's number
  static constexpr std::uint32_t kIsPlain = 1U << 30;   // an aligned word in writable data, no addend
  static constexpr unsigned kKindShift = 28, kTableShift = 26;
  static constexpr std::uint32_t kMaximumPosition = (1U << 26) - 1;

  [[nodiscard]] bool is_plain() const { return (bits & kIsPlain) != 0; }
  [[nodiscard]] arch::RelocKind kind() const { return static_cast<arch::RelocKind>(bits >> kKindShift & 3); }
  [[nodiscard]] Image::RelocationRef relocation() const {
    return (bits >> kTableShift & 3) << Image::kTableShift | (bits & kMaximumPosition);
  }
};

class IndexArena;

/// Plain data; its memory belongs to the arena that it was built in.
struct ImportIndex {
  const std::uint32_t *starts = nullptr;  // NULL: not built
  IndexEntry *entries = nullptr;
  std::uint32_t count = 0;
  std::uint32_t shift = 0;
  std::uint32_t bytes = 0;
  void *chunk = nullptr;

  /// Calls `visit(k)` for the entry of each relocation whose symbol has this name. `number`: of the name, never 0.
  template <class Visit>
  void for_each(const Image &image, const SymbolName &name, std::uint32_t number, Visit visit) const {
    const std::uint32_t bucket = static_cast<std::uint32_t>(std::uint64_t{name.index_hash} >> shift);
    for (std::uint32_t k = starts[bucket], end = starts[bucket + 1]; k < end; ++k) {
      IndexEntry &entry = entries[k];
      if ((entry.bits & IndexEntry::kIsNumber) != 0) {
        if (entry.key != number) continue;
      } else {
        if (entry.key != name.index_hash) continue;
        if (std::strcmp(image.symbol_name(image.relocation(entry.relocation()).symbol), name.text) != 0) continue;
        entry.key = number;
        entry.bits |= IndexEntry::kIsNumber;
      }
      visit(k);
    }
  }
};

/// Pages that indexes are cut from. A chunk goes back to the kernel when the last index in it was freed.
class IndexArena {
 public:
  IndexArena() = default;
  IndexArena(const IndexArena &) = delete;
  IndexArena &operator=(const IndexArena &) = delete;

  /// Builds the index of an object. A relocation that names a symbol or a string outside the object's tables is a Problem
  /// (image_malformed), and no memory is one (out_of_memory).
  ImportIndex build(const Image &image, Problem &problem);
  void free(ImportIndex &index);
  [[nodiscard]] std::size_t bytes_used() const { return bytes_used_; }

 private:
  struct Chunk {
    std::size_t size;
    std::size_t used;
    std::size_t live;  // indexes in it
  };
  bool collect(const Image &image, Problem &problem);
  void *allocate(std::size_t bytes, void *&chunk);

  PageVector<IndexEntry> scratch_;
  Chunk *current_ = nullptr;
  std::size_t bytes_used_ = 0;
};

}  // namespace shunt::core
