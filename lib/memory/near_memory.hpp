// near_memory.hpp: memory for code within reach of a jump from a given place: trampolines, and stubs that jump on to anywhere.
//
// It is taken where nothing is mapped, in blocks, and given out in small pieces. A piece is filled by a TextFlip of its page, so
// the pages are never writable while they are executable, and not even after a fork does one process write what another runs.
// What is not in use holds traps.
#pragma once

#include <cstdint>
#include <span>

#include "memory/text_flip.hpp"

namespace shunt::core {

class NearMemory {
 public:
  /// `trap`: the instruction that fills what is not in use, a whole number of times (the ISA's kTrap). It stays where it is.
  explicit NearMemory(std::span<const std::uint8_t> trap) : trap_(trap) {}
  NearMemory(const NearMemory &) = delete;
  NearMemory &operator=(const NearMemory &) = delete;
  /// Unmaps everything: nobody runs any of it any more.
  ~NearMemory();

  /// `size` bytes, aligned to 16, all of which lie within `reach` bytes of `near`. 0 when there is no such memory; the problem
  /// says so. They hold traps (or an earlier piece's bytes) until a TextFlip writes them. At most 64 KiB.
  std::uintptr_t allocate(std::uintptr_t near, std::uint64_t reach, std::size_t size, Problem &problem);
  /// Gives back what allocate() answered for `size`. Nobody runs it any more. A block without pieces is unmapped.
  void free(std::uintptr_t address, std::size_t size);

  [[nodiscard]] std::size_t blocks() const { return blocks_.size(); }

 private:
  static constexpr std::size_t kBlock = std::size_t{64} << 10, kPiece = 16, kPieces = kBlock / kPiece;
  struct Block {
    std::uintptr_t address;
    std::uint64_t used[kPieces / 64];
  };
  static std::uintptr_t take(Block &block, std::uintptr_t low, std::uintptr_t high, std::size_t pieces);
  bool map_block(std::uintptr_t near, std::uintptr_t low, std::uintptr_t high, Problem &problem);
  int map_traps(std::uintptr_t address) const;

  const std::span<const std::uint8_t> trap_;
  PageVector<Block> blocks_;
};

}  // namespace shunt::core
