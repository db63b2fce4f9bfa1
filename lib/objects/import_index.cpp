#include "objects/import_index.hpp"

namespace shunt::core {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{256} << 10;

}  // namespace

/// Room for that many hashes and as many runs as there can be between them, at the front of the current chunk.
bool IndexArena::have_room(std::size_t relocations) {
  const std::size_t bytes = relocations * sizeof(IndexHash) + (relocations / 2 + 5) * sizeof(IndexRun);
  if (current_ != nullptr && current_->size - current_->used >= bytes) return true;
  const std::size_t page = sys::page_size();
  const std::size_t size = (std::max(kChunkBytes, bytes + sizeof(Chunk)) + page - 1) / page * page;
  auto *fresh = static_cast<Chunk *>(sys::map_anonymous(size, false));
  if (fresh == nullptr) return false;
  *fresh = {size, sizeof(Chunk), 0};
  // A chunk whose indexes are all gone already would never be seen again.
  if (current_ != nullptr && current_->live == 0) sys::unmap(current_, current_->size);
  current_ = fresh;
  return true;
}

/// The index whose hashes were written to the front of the current chunk.
ImportIndex IndexArena::finish(std::uint32_t count) {
  ImportIndex index;
  index.is_built = true;
  if (count == 0) return index;
  char *const front = reinterpret_cast<char *>(current_) + current_->used;
  const std::size_t hash_bytes = (count * sizeof(IndexHash) + 7) & ~std::size_t{7};  // runs are aligned
  const std::size_t run_bytes = runs_.size() * sizeof(IndexRun);
  std::memcpy(front + hash_bytes, runs_.data(), run_bytes);
  index.hashes = reinterpret_cast<const IndexHash *>(front);
  index.runs = reinterpret_cast<const IndexRun *>(front + hash_bytes);
  index.count = count;
  index.run_count = static_cast<std::uint32_t>(runs_.size());
  index.bytes = static_cast<std::uint32_t>(hash_bytes + run_bytes);
  index.chunk = current_;
  current_->used += index.bytes;
  ++current_->live;
  bytes_used_ += index.bytes;
  return index;
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
