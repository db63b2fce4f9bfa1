// import_index.hpp: for one object, every relocation that may be a slot, with the hash of its symbol's name. Built in one pass
// over the relocations when an object is first looked at.
//
// It is two flat arrays in the order of the relocations, and nothing is sorted: memory that is read from front to back comes
// at the speed of the bus, while every step of a search in it waits for memory. All hashes of an object are gone through
// for each plan; whether one is asked for is then decided without leaving the cache. What is found is compared by name.
//
// Memory: 12 bytes for a slot, in pages of our own (the loader's lock is held while this is built, so malloc is out of
// reach). The limit is 16 bytes a slot and 1 KiB an object.
#pragma once

#include <cstdint>

#include "base/page_vector.hpp"
#include "elf/image.hpp"
#include "elf/symbols.hpp"

namespace shunt::core {

struct IndexEntry {
  std::uint32_t offset;  // of the slot, from the object's lowest address
  std::uint32_t bits;

  static constexpr std::uint32_t kIsPlain = 1U << 31;  // an aligned word in writable data, no addend
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
  const IndexEntry *entries = nullptr;
  const std::uint32_t *hashes = nullptr;
  std::uint32_t count = 0;
  std::uint32_t bytes = 0;
  void *chunk = nullptr;
  bool is_built = false;

  /// Calls `visit(k)` for each entry with this hash.
  template <class Visit>
  void for_each_hash(std::uint32_t hash, Visit visit) const {
    constexpr std::uint32_t kBlock = 16;  // compared at once, without a branch
    std::uint32_t k = 0;
    for (; k + kBlock <= count; k += kBlock) {
      bool any = false;
      for (std::uint32_t j = 0; j < kBlock; ++j) any |= hashes[k + j] == hash;
      for (std::uint32_t j = 0; any && j < kBlock; ++j)
        if (hashes[k + j] == hash) visit(k + j);
    }
    for (; k < count; ++k)
      if (hashes[k] == hash) visit(k);
  }
  /// Calls `visit(entry)` for each entry whose symbol has this name.
  template <class Visit>
  void for_each(const Image &image, const SymbolName &name, Visit visit) const {
    for_each_hash(name.index_hash, [&](std::uint32_t k) {
      if (std::strcmp(image.symbol_name(image.relocation(entries[k].relocation()).symbol), name.text) == 0) visit(entries[k]);
    });
  }
};

/// Pages that indexes are cut from. A chunk goes back to the kernel when the last index in it was freed.
class IndexArena {
 public:
  IndexArena() = default;
  IndexArena(const IndexArena &) = delete;
  IndexArena &operator=(const IndexArena &) = delete;

  /// Builds the index of an object. A relocation that names a place, a symbol or a string outside the object is a Problem
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
  bool have_room(std::size_t bytes);

  Chunk *current_ = nullptr;
  PageVector<std::uint32_t> hashes_;  // of the object at work
  std::size_t bytes_used_ = 0;
};

}  // namespace shunt::core
