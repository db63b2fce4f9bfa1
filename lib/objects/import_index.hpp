// import_index.hpp: for one object, the hash of the symbol's name of every relocation that may be a slot. Built in one pass
// over the relocations when an object is first looked at.
//
// It is a flat array in the order of the relocations, and nothing is sorted: memory that is read from front to back comes at
// the speed of the bus, while every step of a search in it waits for memory. All hashes of an object are gone through for
// a plan; whether one is asked for is decided without leaving the cache. What is found is compared by name.
//
// Memory, in pages of our own (the loader's lock is held while this is built, so malloc is out of reach; and every fresh page
// costs as much as a hundred relocations): 2 bytes for a slot, and 8 for each run of relocations that may be slots. Linkers
// sort them, so that there are few runs; in the worst case, every other relocation, it is 10 bytes. The limit is 16 bytes a
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

/// What the index keeps of name_hash().
using IndexHash = std::uint16_t;
inline IndexHash index_hash(const SymbolName &name) { return static_cast<IndexHash>(name.index_hash >> 16); }

/// Some hashes, nearly: small enough to stay in the cache, and asked without a branch. A few others pass for members.
class HashSet {
 public:
  void insert(IndexHash hash) { bits_[hash / 512] |= std::uint64_t{1} << hash / 8 % 64; }
  [[nodiscard]] bool may_have(IndexHash hash) const { return (bits_[hash / 512] >> hash / 8 % 64 & 1) != 0; }

 private:
  std::uint64_t bits_[65536 / 512] = {};
};

/// Plain data; its memory belongs to the arena that it was built in.
struct ImportIndex {
  const IndexHash *hashes = nullptr;
  const IndexRun *runs = nullptr;
  std::uint32_t count = 0, run_count = 0;
  std::uint32_t bytes = 0;
  void *chunk = nullptr;
  bool is_built = false;

  /// Calls `visit(relocation)` for each relocation whose symbol's name has this hash.
  template <class Visit>
  void for_each_hash(IndexHash hash, Visit visit) const;
  /// Calls `visit(hash, relocation)` for each relocation whose symbol's name may have one of these hashes.
  template <class Visit>
  void for_each_in(const HashSet &hashes, Visit visit) const;
  /// Calls `visit(relocation)` for each relocation whose symbol has this name.
  template <class Visit>
  void for_each(const Image &image, const SymbolName &name, Visit visit) const {
    for_each_hash(index_hash(name), [&](Image::RelocationRef one) {
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

  /// Builds the index of an object, and calls `visit(hash, relocation, name)` for each of its entries whose hash may be
  /// `asked` for. `next`, if there is one, is what will be indexed after it: its names are asked of memory meanwhile. A relocation that
  /// names a symbol or a string outside the object is a Problem (image_malformed), and no memory is one (out_of_memory).
  template <class Visit>
  ImportIndex build(const Image &image, const Image *next, const HashSet &asked, Visit visit, Problem &problem);
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
void ImportIndex::for_each_hash(IndexHash hash, Visit visit) const {
  constexpr std::uint32_t kBlock = 32;  // compared at once, without a branch
  const IndexHash *at = hashes;
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

template <class Visit>
void ImportIndex::for_each_in(const HashSet &asked, Visit visit) const {
  constexpr std::uint32_t kBlock = 64;
  const IndexHash *at = hashes;
  for (std::uint32_t r = 0; r < run_count; ++r) {
    const IndexRun run = runs[r];
    for (std::uint32_t first = 0; first < run.count; first += kBlock) {
      std::uint32_t hits[kBlock], hit_count = 0;
      for (std::uint32_t k = first; k < std::min(first + kBlock, run.count); ++k) {
        hits[hit_count] = k;
        hit_count += asked.may_have(at[k]) ? 1 : 0;
      }
      for (std::uint32_t k = 0; k < hit_count; ++k) visit(at[hits[k]], run.first + hits[k]);
    }
    at += run.count;
  }
}

/// Asks memory for the names of an object, a little at a time, front to back, while another object is at work.
class NamesAhead {
 public:
  /// `steps`: how many times on() will be called.
  NamesAhead(const Image *image, std::size_t steps) {
    if (image == nullptr) return;
    // Of a table that is mostly other names than those of imports, a part will do.
    const std::size_t size = std::min<std::size_t>(image->strings_size(), image->relocation_count() * 64);
    at_ = image->string(0);
    step_ = size / (steps + 1);
  }
  void on() {
    __builtin_prefetch(at_);
    at_ += step_;
  }

 private:
  const char *at_ = "";
  std::size_t step_ = 0;
};

/// The part that touches every relocation of the process. Relocation, symbol and name lie in three places, and each is known
/// only from the one before. All three are asked of memory some time before they are needed, and evenly, since memory takes
/// only so many questions at a time. Hardly a branch depends on what is read: a wrong guess throws away what was begun of the
/// next. `Entry` is Elf64_Rela or Elf64_Rel.
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
  bool read(IndexHash *&hashes, PageVector<IndexRun> &runs, NamesAhead &ahead, const HashSet &asked, Visit &visit) {
    for (std::uint32_t first = 0; first < count_; first += kBlock) {
      if (!read_block(first, std::min(first + kBlock, count_), ahead)) return false;
      hash_block(hashes);
      unsigned hits[kBlock], hit_count = 0;
      for (unsigned k = 0; k < block_; ++k) {
        hits[hit_count] = k;
        hit_count += asked.may_have(hashes[k]) ? 1 : 0;
      }
      if (!note_runs(runs)) return false;
      for (unsigned k = 0; k < hit_count; ++k) visit(hashes[hits[k]], table_bits_ | position_[hits[k]], name_[hits[k]]);
      hashes += block_;
    }
    return true;
  }

 private:
  static constexpr std::uint32_t kBlock = 64;
  static constexpr std::size_t kFar = 1024;  // bytes

  bool read_block(std::uint32_t first, std::uint32_t end, NamesAhead &ahead) {
    const std::uint32_t symbol_limit = image_.symbol_limit(), strings_size = image_.strings_size();
    const char *const strings = image_.string(0);
    block_ = 0;
    for (std::uint32_t k = first; k < end; ++k) {
      const std::uint64_t info = entries_[k].r_info;
      __builtin_prefetch(reinterpret_cast<const char *>(&entries_[k]) + kFar);
      ahead.on();
      if (arch::Native::kind(ELF64_R_TYPE(info)) == arch::RelocKind::other) continue;
      const auto index = static_cast<std::uint32_t>(ELF64_R_SYM(info));
      if (index == STN_UNDEF) continue;
      if (index >= symbol_limit) return false;
      const Elf64_Sym &symbol = image_.symbol(index);
      __builtin_prefetch(reinterpret_cast<const char *>(&symbol) + kFar);
      if (symbol.st_name >= strings_size) return false;
      if (symbol_binding(symbol) == STB_LOCAL) continue;
      name_[block_] = strings + symbol.st_name;
      __builtin_prefetch(name_[block_]);
      position_[block_++] = k;
    }
    return true;
  }

  /// Apart, so that all that it works with stays in registers.
  [[gnu::noinline]] void hash_block(IndexHash *hashes) const {
    const char *const readable_end = image_.strings_readable_end();
    for (unsigned k = 0; k < block_; ++k) hashes[k] = static_cast<IndexHash>(name_hash(name_[k], readable_end) >> 16);
  }

  bool note_runs(PageVector<IndexRun> &runs) {
    for (unsigned k = 0; k < block_;) {
      const bool is_whole = position_[block_ - 1] - position_[k] == block_ - 1 - k;  // nearly always
      const std::uint32_t count = is_whole ? block_ - k : 1;
      const Image::RelocationRef relocation = table_bits_ | position_[k];
      if (relocation != next_in_run_ && !runs.push_back({relocation, 0})) return false;
      runs.back().count += count;
      next_in_run_ = relocation + count;
      k += count;
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
ImportIndex IndexArena::build(const Image &image, const Image *next, const HashSet &asked, Visit visit,
                              Problem &problem) {
  runs_.clear();
  if (!have_room(image.relocation_count()) || !runs_.reserve(image.relocation_count() / 2 + 4)) {
    problem.set(Code::out_of_memory, "no memory for the import index");
    return {};
  }
  auto *const hashes = reinterpret_cast<IndexHash *>(reinterpret_cast<char *>(current_) + current_->used);
  IndexHash *end = hashes;
  NamesAhead ahead(next, image.relocation_count());
  for (unsigned k = 0; k < Image::kTables; ++k) {
    const bool is_sound = image.table(k).with_addend
                              ? IndexTableReader<Elf64_Rela>(image, k).read(end, runs_, ahead, asked, visit)
                              : IndexTableReader<Elf64_Rel>(image, k).read(end, runs_, ahead, asked, visit);
    if (is_sound) continue;
    problem.set(Code::image_malformed, "a relocation names a symbol or a string outside the object");
    return {};
  }
  ImportIndex index = finish(static_cast<std::uint32_t>(end - hashes));
  if (!index.is_built) problem.set(Code::out_of_memory, "no memory for the import index");
  return index;
}

}  // namespace shunt::core
