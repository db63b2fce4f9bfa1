#include "memory/near_memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/fd.hpp"
#include "base/syscalls.hpp"

namespace shunt::core {
namespace {

// Linux 4.17. Older kernels take the address for a wish, which is checked.
constexpr int kNotOverAnything = 0x100000;  // MAP_FIXED_NOREPLACE
constexpr std::uintptr_t kLowest = 0x10000, kHighest = (std::uintptr_t{1} << 47) - 0x10000;
constexpr int kTries = 8;  // others map memory at the same time

std::uintptr_t distance(std::uintptr_t a, std::uintptr_t b) { return a < b ? b - a : a - b; }

/// The place of a free block of `size` in [low, high) that is nearest to `near`. 0 when there is none.
std::uintptr_t nearest_gap(std::string_view map, std::uintptr_t near, std::uintptr_t low, std::uintptr_t high,
                           std::size_t size) {
  std::uintptr_t best = 0, end_before = low;
  const auto look = [&](std::uintptr_t begin, std::uintptr_t end) {
    begin = (std::max(begin, low) + size - 1) / size * size;
    end = std::min(end, high) / size * size;
    if (begin >= end || end - begin < size) return;
    const std::uintptr_t place = near < begin ? begin : std::min(near / size * size, end - size);
    if (best == 0 || distance(place, near) < distance(best, near)) best = place;
  };
  for (MapLine line; next_map_line(map, line);) {
    look(end_before, line.begin);
    end_before = std::max(end_before, line.end);
  }
  look(end_before, high);
  return best;
}

}  // namespace

NearMemory::~NearMemory() {
  for (const Block &block : blocks_) sys::unmap(reinterpret_cast<void *>(block.address), kBlock);
}

std::uintptr_t NearMemory::allocate(std::uintptr_t near, std::uint64_t reach, std::size_t size, Problem &problem) {
  const std::size_t pieces = (size + kPiece - 1) / kPiece;
  const std::uintptr_t low = std::max(near > reach ? near - reach : 0, kLowest);
  const std::uintptr_t high = std::min(near < kHighest - reach ? near + reach : kHighest, kHighest);
  if (size == 0 || pieces > kPieces) {
    problem.set(Code::invalid_argument, "%zu bytes near %#lx cannot be had in one piece", size, near);
    return 0;
  }
  for (Block &block : blocks_)
    if (const std::uintptr_t address = take(block, low, high, pieces)) return address;
  if (!map_block(near, low, high, problem)) return 0;
  return take(blocks_.back(), low, high, pieces);
}

std::uintptr_t NearMemory::take(Block &block, std::uintptr_t low, std::uintptr_t high, std::size_t pieces) {
  std::size_t free = 0;
  for (std::size_t k = 0; k < kPieces; ++k) {
    const bool is_used = (block.used[k / 64] >> (k % 64) & 1) != 0;
    free = is_used || block.address + k * kPiece < low ? 0 : free + 1;
    if (block.address + (k + 1) * kPiece > high) return 0;
    if (free < pieces) continue;
    const std::size_t first = k + 1 - pieces;
    for (std::size_t one = first; one <= k; ++one) block.used[one / 64] |= std::uint64_t{1} << (one % 64);
    return block.address + first * kPiece;
  }
  return 0;
}

void NearMemory::free(std::uintptr_t address, std::size_t size) {
  for (std::size_t b = 0; b < blocks_.size(); ++b) {
    Block &block = blocks_[b];
    if (address < block.address || address - block.address >= kBlock) continue;
    const std::size_t first = (address - block.address) / kPiece;
    for (std::size_t k = first; k < first + (size + kPiece - 1) / kPiece && k < kPieces; ++k)
      block.used[k / 64] &= ~(std::uint64_t{1} << (k % 64));
    if (std::any_of(std::begin(block.used), std::end(block.used), [](std::uint64_t word) { return word != 0; })) return;
    sys::unmap(reinterpret_cast<void *>(block.address), kBlock);
    std::memmove(static_cast<void *>(&block), &block + 1, (blocks_.size() - b - 1) * sizeof block);
    blocks_.set_size(blocks_.size() - 1);
    return;
  }
}

bool NearMemory::map_block(std::uintptr_t near, std::uintptr_t low, std::uintptr_t high, Problem &problem) {
  problem.address = near;
  if (!blocks_.reserve(blocks_.size() + 1)) {
    problem.set(Code::out_of_memory, "no memory to note memory near %#lx", near);
    return false;
  }
  for (int tries = 0; tries < kTries; ++tries) {
    PageVector<char> text;
    if (const int failed = read_map_text(text)) {
      problem.sys_errno = -failed;
      problem.set(Code::no_near_memory, "cannot learn from /proc/self/maps what is free near %#lx", near);
      return false;
    }
    const std::uintptr_t place = nearest_gap({text.data(), text.size()}, near, low, high, kBlock);
    if (place == 0) {
      problem.set(Code::no_near_memory,
                  "no %zu bytes are free between %#lx and %#lx, as far as a jump from %#lx reaches", kBlock, low, high,
                  near);
      return false;
    }
    const int failed = map_traps(place);
    if (failed == 0) {
      problem.address = 0;
      return blocks_.push_back({place, {}});
    }
    if (failed == -EEXIST) continue;
    problem.sys_errno = -failed;
    problem.set(Code::no_near_memory, "cannot map memory at %#lx, near %#lx", place, near);
    return false;
  }
  problem.set(Code::no_near_memory, "others took the free memory near %#lx again and again", near);
  return false;
}

/// A block of traps at `address`, where nothing is. 0, or -errno.
int NearMemory::map_traps(std::uintptr_t address) const {
  const Fd file(sys::memory_file("shunt-near"));
  if (!file.is_open()) return file.get();
  std::uint8_t traps[4096];
  for (std::size_t k = 0; k < sizeof traps; ++k) traps[k] = trap_[k % trap_.size()];
  for (std::size_t at = 0; at < kBlock; at += sizeof traps)
    if (sys::call(SYS_pwrite64, file.get(), traps, sizeof traps, at) != static_cast<long>(sizeof traps)) return -ENOMEM;
  const std::intptr_t mapped =
      sys::map(address, kBlock, PROT_READ | PROT_EXEC, MAP_PRIVATE | kNotOverAnything, file.get(), 0);
  if (mapped < 0) return static_cast<int>(mapped);
  if (static_cast<std::uintptr_t>(mapped) == address) return 0;
  sys::unmap(reinterpret_cast<void *>(mapped), kBlock);
  return -EEXIST;
}

}  // namespace shunt::core
