#include "objects/import_index.hpp"

#include <algorithm>

#include "arch/native.hpp"
#include "elf/name_hash.hpp"

namespace shunt::core {
namespace {

using arch::RelocKind;

constexpr std::size_t kChunkBytes = std::size_t{256} << 10;

bool addend_is_zero(const Elf64_Rela &entry) { return entry.r_addend == 0; }
bool addend_is_zero(const Elf64_Rel &) { return false; }  // it was in the word that is now overwritten

/// The last writable segment that a slot lay in: nearly always the next one lies there too.
struct DataRange {
  std::uintptr_t begin = 1, end = 0;

  bool holds_word(const Image &image, std::uintptr_t place) {
    if (place >= begin && place < end && end - place >= sizeof(std::uintptr_t)) return true;
    const Elf64_Phdr *segment = image.segment_at(place, sizeof(std::uintptr_t));
    if (segment == nullptr || (segment->p_flags & (PF_R | PF_W)) != (PF_R | PF_W)) return false;
    begin = image.base() + segment->p_vaddr;
    end = begin + segment->p_memsz;
    return true;
  }
};

/// The part that touches every relocation of the process. Relocation, symbol and name lie in three places, and each is known
/// only from the one before, so a block of relocations is taken through in three steps, each of which asks for what the next
/// one needs.
template <class Entry>
class TableReader {
 public:
  TableReader(const Image &image, unsigned table_number)
      : image_(image), entries_(static_cast<const Entry *>(image.table(table_number).entries)),
        count_(image.table(table_number).count), table_bits_(table_number << IndexEntry::kTableShift) {}

  /// Appends to `entries` and `hashes`. False when the table names something outside the object.
  bool read(IndexEntry *&entries, std::uint32_t *&hashes) {
    if (count_ > IndexEntry::kMaximumPosition) return false;
    for (std::uint32_t first = 0; first < count_; first += kBlock)
      if (!read_block(first, std::min(first + kBlock, count_), entries, hashes)) return false;
    return true;
  }

 private:
  static constexpr std::uint32_t kBlock = 64;

  bool read_block(std::uint32_t first, std::uint32_t end, IndexEntry *&entries, std::uint32_t *&hashes) {
    const std::uint32_t symbol_limit = image_.symbol_limit(), strings_size = image_.strings_size();
    const char *const strings = image_.string(0);
    const char *const readable_end = image_.strings_readable_end();
    const std::uintptr_t base = image_.base(), low = image_.low();
    std::uint32_t position[kBlock];
    const Elf64_Sym *symbol[kBlock];
    const char *name[kBlock];
    unsigned count = 0, kept = 0;
    for (std::uint32_t k = first; k < end; ++k) {
      const std::uint64_t info = entries_[k].r_info;
      __builtin_prefetch(&entries_[std::min(k + kBlock, count_ - 1)]);
      if (arch::Native::kind(ELF64_R_TYPE(info)) == RelocKind::other) continue;
      const auto index = static_cast<std::uint32_t>(ELF64_R_SYM(info));
      if (index == STN_UNDEF) continue;
      if (index >= symbol_limit) return false;
      symbol[count] = &image_.symbol(index);
      __builtin_prefetch(symbol[count]);
      position[count++] = k;
    }
    for (unsigned j = 0; j < count; ++j) {
      if (symbol[j]->st_name >= strings_size) return false;
      if (symbol_binding(*symbol[j]) == STB_LOCAL) continue;
      name[kept] = strings + symbol[j]->st_name;
      __builtin_prefetch(name[kept]);
      __builtin_prefetch(name[kept] + 31);  // name_hash() reads 32 bytes at once
      position[kept++] = position[j];
    }
    for (unsigned j = 0; j < kept; ++j) {
      const Entry &entry = entries_[position[j]];
      const std::uintptr_t place = base + entry.r_offset;
      if (place - low > UINT32_MAX) return false;
      const RelocKind kind = arch::Native::kind(ELF64_R_TYPE(entry.r_info));
      const bool is_plain = place % sizeof(std::uintptr_t) == 0 && data_.holds_word(image_, place) &&
                            (kind != RelocKind::absolute || addend_is_zero(entry));
      *hashes++ = name_hash(name[j], readable_end);
      *entries++ = {static_cast<std::uint32_t>(place - low), (is_plain ? IndexEntry::kIsPlain : 0) |
                                                                 static_cast<std::uint32_t>(kind) << IndexEntry::kKindShift |
                                                                 table_bits_ | position[j]};
    }
    return true;
  }

  const Image &image_;
  const Entry *const entries_;
  const std::uint32_t count_, table_bits_;
  DataRange data_;
};

}  // namespace

/// The entries are written where they stay, at the front of what is left of a chunk; the hashes follow when it is known how
/// many there are.
ImportIndex IndexArena::build(const Image &image, Problem &problem) {
  ImportIndex index;
  const std::size_t limit = image.relocation_count();
  if (!have_room(limit * (sizeof(IndexEntry) + sizeof(std::uint32_t))) || !hashes_.reserve(limit)) {
    problem.set(Code::out_of_memory, "no memory for the import index");
    return index;
  }
  auto *const entries = reinterpret_cast<IndexEntry *>(reinterpret_cast<char *>(current_) + current_->used);
  IndexEntry *entries_end = entries;
  std::uint32_t *hashes_end = hashes_.data();
  for (unsigned k = 0; k < Image::kTables; ++k) {
    const bool is_sound = image.table(k).with_addend ? TableReader<Elf64_Rela>(image, k).read(entries_end, hashes_end)
                                                     : TableReader<Elf64_Rel>(image, k).read(entries_end, hashes_end);
    if (is_sound) continue;
    problem.set(Code::image_malformed, "a relocation names a place, a symbol or a string outside the object");
    return index;
  }
  index.is_built = true;
  index.count = static_cast<std::uint32_t>(entries_end - entries);
  if (index.count == 0) return index;
  auto *const hashes = reinterpret_cast<std::uint32_t *>(entries_end);
  std::memcpy(hashes, hashes_.data(), index.count * sizeof *hashes);
  index.entries = entries;
  index.hashes = hashes;
  index.bytes = static_cast<std::uint32_t>((index.count * (sizeof *entries + sizeof *hashes) + 7) & ~std::size_t{7});
  index.chunk = current_;
  current_->used += index.bytes;
  ++current_->live;
  bytes_used_ += index.bytes;
  return index;
}

bool IndexArena::have_room(std::size_t bytes) {
  bytes += 8;
  if (current_ != nullptr && current_->size - current_->used >= bytes) return true;
  const std::size_t page = sys::page_size();
  const std::size_t size = (std::max(kChunkBytes, bytes + sizeof(Chunk)) + page - 1) / page * page;
  auto *fresh = static_cast<Chunk *>(sys::map_anonymous(size, size == kChunkBytes));
  if (fresh == nullptr) return false;
  *fresh = {size, sizeof(Chunk), 0};
  // A chunk whose indexes are all gone already would never be seen again.
  if (current_ != nullptr && current_->live == 0) sys::unmap(current_, current_->size);
  current_ = fresh;
  return true;
}

void IndexArena::free(ImportIndex &index) {
  auto *chunk = static_cast<Chunk *>(index.chunk);
  if (chunk != nullptr) {
    bytes_used_ -= index.bytes;
    if (--chunk->live == 0 && chunk != current_) sys::unmap(chunk, chunk->size);
  }
  index = ImportIndex();
}

}  // namespace shunt::core
