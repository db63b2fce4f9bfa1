#include "objects/import_index.hpp"

#include <bit>

#include "arch/native.hpp"
#include "elf/name_hash.hpp"

namespace shunt::core {
namespace {

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

/// The part of collect() that touches every relocation of the process. `Entry` is Elf64_Rela or Elf64_Rel.
template <class Entry>
bool collect_table(const Image &image, unsigned table_number, IndexEntry *&out) {
  using arch::RelocKind;
  const Image::Table &table = image.table(table_number);
  const Entry *const entries = static_cast<const Entry *>(table.entries);
  const std::uint32_t symbol_limit = image.symbol_limit(), strings_size = image.strings_size();
  const char *const readable_end = image.strings_readable_end();
  const char *const strings = image.string(0);
  const std::uintptr_t base = image.base(), low = image.low();
  const std::uint32_t table_bits = table_number << IndexEntry::kTableShift;
  if (table.count > IndexEntry::kMaximumPosition) return false;
  DataRange data;
  IndexEntry *next = out;
  for (std::uint32_t k = 0; k < table.count; ++k) {
    const std::uint64_t info = entries[k].r_info;
    const RelocKind kind = arch::Native::kind(ELF64_R_TYPE(info));
    if (kind == RelocKind::other) continue;
    const auto index = static_cast<std::uint32_t>(ELF64_R_SYM(info));
    if (index == STN_UNDEF) continue;
    if (index >= symbol_limit) return false;
    const Elf64_Sym &symbol = image.symbol(index);
    if (symbol.st_name >= strings_size) return false;
    if (symbol_binding(symbol) == STB_LOCAL) continue;
    const std::uintptr_t place = base + entries[k].r_offset;
    if (place - low > UINT32_MAX) return false;
    bool is_plain = place % sizeof(std::uintptr_t) == 0 && data.holds_word(image, place);
    if (kind == RelocKind::absolute) is_plain = is_plain && addend_is_zero(entries[k]);
    *next++ = {name_hash(strings + symbol.st_name, readable_end), static_cast<std::uint32_t>(place - low),
               (is_plain ? IndexEntry::kIsPlain : 0) | static_cast<std::uint32_t>(kind) << IndexEntry::kKindShift |
                   table_bits | k};
  }
  out = next;
  return true;
}

}  // namespace

bool IndexArena::collect(const Image &image, Problem &problem) {
  if (!scratch_.reserve(image.relocation_count())) {
    problem.set(Code::out_of_memory, "no memory for the import index");
    return false;
  }
  IndexEntry *out = scratch_.data();
  bool sound = true;
  for (unsigned k = 0; k < Image::kTables && sound; ++k) {
    const Image::Table &table = image.table(k);
    sound = table.with_addend ? collect_table<Elf64_Rela>(image, k, out) : collect_table<Elf64_Rel>(image, k, out);
  }
  if (!sound) {
    problem.set(Code::image_malformed, "a relocation names a place, a symbol or a string outside the object");
    return false;
  }
  scratch_.set_size(static_cast<std::size_t>(out - scratch_.data()));
  return true;
}

ImportIndex IndexArena::build(const Image &image, Problem &problem) {
  ImportIndex index;
  if (!collect(image, problem)) return index;
  index.count = static_cast<std::uint32_t>(scratch_.size());
  // Two to four entries a bucket: comparing these is cheaper than fetching another cache line of starts.
  const unsigned bits = index.count < 4 ? 0 : static_cast<unsigned>(std::bit_width(index.count / 2) - 1);
  const std::uint32_t buckets = 1U << bits;
  index.shift = 32 - bits;
  index.bytes =
      static_cast<std::uint32_t>(index.count * sizeof(IndexEntry) + (buckets + 1) * sizeof(std::uint32_t) + 7) & ~7U;

  void *memory = allocate(index.bytes, index.chunk);
  if (memory == nullptr) {
    problem.set(Code::out_of_memory, "no memory for the import index");
    return ImportIndex();
  }
  auto *entries = static_cast<IndexEntry *>(memory);
  auto *starts = reinterpret_cast<std::uint32_t *>(entries + index.count);
  // Counting sort: sizes, then ends, then each entry is put below the end of its bucket. The pages are zero at first.
  for (const IndexEntry &entry : scratch_) ++starts[std::uint64_t{entry.key} >> index.shift];
  std::uint32_t end = 0;
  for (std::uint32_t bucket = 0; bucket < buckets; ++bucket) starts[bucket] = end += starts[bucket];
  starts[buckets] = end;
  for (std::size_t k = scratch_.size(); k-- > 0;)
    entries[--starts[std::uint64_t{scratch_[k].key} >> index.shift]] = scratch_[k];
  index.entries = entries;
  index.starts = starts;
  bytes_used_ += index.bytes;
  return index;
}

void *IndexArena::allocate(std::size_t bytes, void *&chunk_out) {
  if (current_ == nullptr || current_->size - current_->used < bytes) {
    const std::size_t page = sys::page_size();
    const std::size_t size = (std::max(kChunkBytes, bytes + sizeof(Chunk)) + page - 1) / page * page;
    auto *fresh = static_cast<Chunk *>(sys::map_anonymous(size, size == kChunkBytes));
    if (fresh == nullptr) return nullptr;
    *fresh = {size, sizeof(Chunk), 0};
    // A chunk whose indexes are all gone already would never be seen again.
    if (current_ != nullptr && current_->live == 0) sys::unmap(current_, current_->size);
    current_ = fresh;
  }
  void *memory = reinterpret_cast<char *>(current_) + current_->used;
  current_->used += bytes;
  ++current_->live;
  chunk_out = current_;
  return memory;
}

void IndexArena::free(ImportIndex &index) {
  if (index.chunk == nullptr) return;
  bytes_used_ -= index.bytes;
  auto *chunk = static_cast<Chunk *>(index.chunk);
  if (--chunk->live == 0 && chunk != current_) sys::unmap(chunk, chunk->size);
  index = ImportIndex();
}

}  // namespace shunt::core
