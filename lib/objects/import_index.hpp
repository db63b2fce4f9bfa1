// import_index.hpp: for one object, the hash of the symbol's name of every relocation that may be a slot. Built in one pass
// over the relocations when an object is first looked at.
//
// It is a flat array in the order of the relocations, and nothing is sorted: memory that is read from front to back comes at
// the speed of the bus, while every step of a search in it waits for memory. All hashes of an object are gone through for
// a plan; whether one is asked for is decided without leaving the cache. What is found is compared by name.
//
// Memory, in pages of our own (the loader's lock is held while this is built, so malloc is out of reach; and every fresh page
// costs as much as a hundred relocations): 4 bytes for a slot, and 8 for each run of relocations that may be slots. Linkers
// sort them, so that there are few runs; in the worst case, every other relocation, it is 12 bytes. The limit is 16 bytes a
// slot and 1 KiB an object.
#pragma once

#include <algorithm>
#include <cstdint>

#include "arch/native.hpp"
#include "base/page_vector.hpp"
#include "elf/image.hpp"
#include "elf/name_hash.hpp"
#include "elf/symbols.hpp"

namespace shunt::core {

/// Relocations that follow each other in their table, and their hashes in the index.
struct IndexRun {
  Image::RelocationRef first;
  std::uint32_t count;
};

/// Plain data; its memory belongs to the arena that it was built in.
struct ImportIndex {
  const std::uint32_t *hashes = nullptr;
  const IndexRun *runs = nullptr;
  std::uint32_t count = 0, run_count = 0;
  std::uint32_t bytes = 0;
  void *chunk = nullptr;
  bool is_built = false;

  /// Calls `visit(relocation)` for each relocation whose symbol's name has this hash.
  template <class Visit>
  void for_each_hash(std::uint32_t hash, Visit visit) const;
  /// Calls `visit(relocation)` for each relocation whose symbol has this name.
  template <class Visit>
  void for_each(const Image &image, const SymbolName &name, Visit visit) const {
    for_each_hash(name.index_hash, [&](Image::RelocationRef one) {
      if (std::strcmp(image.symbol_name(image.relocation(one).symbol), name.text) == 0) visit(one);
    });
  }
};

/// Pages that indexes are cut from. A chunk goes back to the kernel when the last index in it was freed.
class IndexArena {
 public:
  IndexArena() = default;
  IndexArena(const IndexArena &) = delete;
  IndexArena &operator=(const IndexArena &) = delete;

  /// Builds the index of an object, and calls `visit(hash, relocation, name)` for each of its entries while they are in the
  /// cache. A relocation that names a symbol or a string outside the object is a Problem (image_malformed), and no memory is
  /// one (out_of_memory).
  template <class Visit>
  ImportIndex build(const Image &image, Visit visit, Problem &problem);
  void free(ImportIndex &index);
  [[nodiscard]] std::size_t bytes_used() const { return bytes_used_; }

 private:
  struct Chunk {
    std::size_t size;
    std::size_t used;
    std::size_t live;  // indexes in it
  };
  bool have_room(std::size_t relocations);
  ImportIndex finish(std::uint32_t count);

  Chunk *current_ = nullptr;
  PageVector<IndexRun> runs_;  // of the object at work
  std::size_t bytes_used_ = 0;
};

// ---- what the compiler must see --------------------------------------------------------------------------------------

template <class Visit>
void ImportIndex::for_each_hash(std::uint32_t hash, Visit visit) const {
  constexpr std::uint32_t kBlock = 16;  // compared at once, without a branch
  const std::uint32_t *at = hashes;
  for (std::uint32_t r = 0; r < run_count; ++r) {
    const IndexRun run = runs[r];
    std::uint32_t k = 0;
    for (; k + kBlock <= run.count; k += kBlock) {
      bool any = false;
      for (std::uint32_t j = 0; j < kBlock; ++j) any |= at[k + j] == hash;
      for (std::uint32_t j = 0; any && j < kBlock; ++j)
        if (at[k + j] == hash) visit(run.first + k + j);
    }
    for (; k < run.count; ++k)
      if (at[k] == hash) visit(run.first + k);
    at += run.count;
  }
}

/// The part that touches every relocation of the process. Relocation, symbol and name lie in three places, and each is known
/// only from the one before, so a block of relocations is taken through in steps, each of which asks for what the next needs.
/// `Entry` is Elf64_Rela or Elf64_Rel.
template <class Entry>
class IndexTableReader {
 public:
  IndexTableReader(const Image &image, unsigned table)
      : image_(image),
        entries_(static_cast<const Entry *>(image.table(table).entries)),
        count_(image.table(table).count),
        table_bits_(table << Image::kTableShift) {}

  /// Writes hashes behind `hashes` and moves it on. False when the table names something outside the object.
  template <class Visit>
  bool read(std::uint32_t *&hashes, PageVector<IndexRun> &runs, Visit &visit) {
    for (std::uint32_t first = 0; first < count_; first += kBlock) {
      if (!read_block(first, std::min(first + kBlock, count_))) return false;
      // Hashes first: a branch on one is guessed, and a wrong guess throws away what was begun of the next.
      for (unsigned k = 0; k < block_; ++k) hashes[k] = name_hash(name_[k], image_.strings_readable_end());
      for (unsigned k = 0; k < block_; ++k) {
        const Image::RelocationRef relocation = table_bits_ | position_[k];
        if (relocation != next_in_run_) {
          if (!runs.push_back({relocation, 0})) return false;
        }
        next_in_run_ = relocation + 1;
        ++runs.back().count;
        visit(hashes[k], relocation, name_[k]);
      }
      hashes += block_;
    }
    return true;
  }

 private:
  static constexpr std::uint32_t kBlock = 64;

  bool read_block(std::uint32_t first, std::uint32_t end) {
    const std::uint32_t symbol_limit = image_.symbol_limit(), strings_size = image_.strings_size();
    const char *const strings = image_.string(0);
    const Elf64_Sym *symbol[kBlock];
    unsigned count = 0;
    for (std::uint32_t k = first; k < end; ++k) {
      const std::uint64_t info = entries_[k].r_info;
      __builtin_prefetch(&entries_[std::min(k + kBlock, count_ - 1)]);
      if (arch::Native::kind(ELF64_R_TYPE(info)) == arch::RelocKind::other) continue;
      const auto index = static_cast<std::uint32_t>(ELF64_R_SYM(info));
      if (index == STN_UNDEF) continue;
      if (index >= symbol_limit) return false;
      symbol[count] = &image_.symbol(index);
      __builtin_prefetch(symbol[count]);
      position_[count++] = k;
    }
    block_ = 0;
    for (unsigned k = 0; k < count; ++k) {
      if (symbol[k]->st_name >= strings_size) return false;
      if (symbol_binding(*symbol[k]) == STB_LOCAL) continue;
      const char *name = strings + symbol[k]->st_name;
      __builtin_prefetch(name);
      __builtin_prefetch(name + 31);  // name_hash() reads 32 bytes at once
      name_[block_] = name;
      position_[block_++] = position_[k];
    }
    return true;
  }

  const Image &image_;
  const Entry *const entries_;
  const std::uint32_t count_, table_bits_;
  unsigned block_ = 0;
  Image::RelocationRef next_in_run_ = UINT32_MAX;
  std::uint32_t position_[kBlock];
  const char *name_[kBlock];
};

/// The hashes are written where they stay, at the front of what is left of a chunk; the runs follow when it is known how many
/// hashes there are.
template <class Visit>
ImportIndex IndexArena::build(const Image &image, Visit visit, Problem &problem) {
  runs_.clear();
  if (!have_room(image.relocation_count()) || !runs_.reserve(image.relocation_count() / 2 + 4)) {
    problem.set(Code::out_of_memory, "no memory for the import index");
    return {};
  }
  auto *const hashes = reinterpret_cast<std::uint32_t *>(reinterpret_cast<char *>(current_) + current_->used);
  std::uint32_t *end = hashes;
  for (unsigned k = 0; k < Image::kTables; ++k) {
    const bool is_sound = image.table(k).with_addend ? IndexTableReader<Elf64_Rela>(image, k).read(end, runs_, visit)
                                                     : IndexTableReader<Elf64_Rel>(image, k).read(end, runs_, visit);
    if (is_sound) continue;
    problem.set(Code::image_malformed, "a relocation names a symbol or a string outside the object");
    return {};
  }
  ImportIndex index = finish(static_cast<std::uint32_t>(end - hashes));
  if (!index.is_built) problem.set(Code::out_of_memory, "no memory for the import index");
  return index;
}

}  // namespace shunt::core
