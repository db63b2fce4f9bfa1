// import_index.hpp: for one object, every relocation that may be a slot, by the name of its symbol. Built in one pass over
// the relocations when an object is first looked at; every later plan is a few loads for each name.
//
// Memory: eight bytes for a slot and two to four for its share of the buckets, in pages of our own (the loader's lock is
// held while this is built, so malloc is out of reach). The limit is 16 bytes a slot and 1 KiB an object.
//
//   starts[bucket] .. starts[bucket + 1]   the entries whose hash has this bucket in its upper bits
//   entries[k]                             {hash of the name, reference of the relocation}
#pragma once

#include <cstdint>
#include <cstring>

#include "base/page_vector.hpp"
#include "elf/image.hpp"
#include "elf/symbols.hpp"

namespace shunt::core {

struct IndexEntry {
  std::uint32_t hash;
  Image::RelocationRef relocation;
};

class IndexArena;

/// Plain data; its memory belongs to the arena that it was built in.
struct ImportIndex {
  const std::uint32_t *starts = nullptr;  // NULL: not built
  const IndexEntry *entries = nullptr;
  std::uint32_t count = 0;
  std::uint32_t shift = 0;
  std::uint32_t bytes = 0;
  void *chunk = nullptr;

  /// Calls `visit(relocation)` for each relocation whose symbol has this name.
  template <class Visit>
  void for_each(const Image &image, const SymbolName &name, Visit visit) const {
    const std::uint32_t bucket = static_cast<std::uint32_t>(std::uint64_t{name.index_hash} >> shift);
    for (std::uint32_t k = starts[bucket], end = starts[bucket + 1]; k < end; ++k) {
      if (entries[k].hash != name.index_hash) continue;
      const Relocation relocation = image.relocation(entries[k].relocation);
      if (std::strcmp(image.symbol_name(relocation.symbol), name.text) == 0) visit(relocation);
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
