// code_range.hpp: code that no thread may be in, nor return into, and where a thread that is in it goes instead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "arch/code.hpp"
#include "arch/native_context.hpp"

namespace shunt::core {

/// An address in [begin, begin + size) is in the way.
struct CodeRange {
  std::uintptr_t begin = 0;
  std::size_t size = 0;
  /// A call in it returns into it. Without one only a signal handler can.
  bool is_returned_to = false;
  /// A thread at from + function_offset may be moved to `to` + trampoline_offset. Sorted; without any, nobody is moved.
  std::uintptr_t from = 0, to = 0;
  std::span<const arch::Boundary> boundaries = {};
};

/// Where a thread that stands at `address` is moved to: itself when it is in nobody's way, 0 when it is and cannot be moved.
inline std::uintptr_t moved(const CodeRange &range, std::uintptr_t address) {
  if (address - range.begin >= range.size) return address;
  const std::uintptr_t offset = address - range.from;
  for (const arch::Boundary &one : range.boundaries)
    if (one.function_offset == offset) return range.to + one.trampoline_offset;
  return 0;
}

/// Some ranges, sorted and apart, that are asked about at once.
class CodeRanges {
 public:
  /// `counts_every_word`: any word on a stack that is an address in a range counts, wherever it comes from.
  explicit CodeRanges(std::span<const CodeRange> ranges, bool counts_every_word = false)
      : ranges_(ranges), counts_every_word_(counts_every_word) {
    if (ranges.empty()) return;
    begin_ = ranges.front().begin;
    size_ = ranges.back().begin + ranges.back().size - begin_;
  }

  /// As moved() of the range that holds the address.
  [[nodiscard]] std::uintptr_t moved(std::uintptr_t address) const {
    const CodeRange *const range = find(address);
    return range == nullptr ? address : core::moved(*range, address);
  }
  [[nodiscard]] bool holds(std::uintptr_t address) const {
    return address - begin_ < size_ && find(address) != nullptr;
  }
  [[nodiscard]] bool counts_every_word() const { return counts_every_word_; }
  /// Whether a thread will return to `word`, which was found on its stack, with `behind` next to it.
  [[nodiscard]] bool will_return(std::uintptr_t word, const std::uintptr_t (&behind)[2]) const {
    if (word - begin_ >= size_) return false;
    const CodeRange *const range = find(word);
    if (range != nullptr && counts_every_word_) return true;
    if (range == nullptr || (!range->boundaries.empty() && core::moved(*range, word) == 0)) return false;
    // Nothing returns to the first instruction of all; whoever calls it has its address on the stack.
    return arch::NativeContext::is_saved_pc(behind) || (range->is_returned_to && word != range->begin);
  }
  /// Whether a register that may hold a return address does.
  [[nodiscard]] bool will_return(std::uintptr_t link) const {
    const CodeRange *const range = link - begin_ < size_ ? find(link) : nullptr;
    return range != nullptr && range->is_returned_to;
  }

 private:
  [[nodiscard]] const CodeRange *find(std::uintptr_t address) const {
    std::size_t low = 0, high = ranges_.size();
    while (low < high) {
      const std::size_t middle = (low + high) / 2;
      if (address < ranges_[middle].begin)
        high = middle;
      else if (address - ranges_[middle].begin < ranges_[middle].size)
        return &ranges_[middle];
      else
        low = middle + 1;
    }
    return nullptr;
  }

  std::span<const CodeRange> ranges_;
  bool counts_every_word_ = false;
  std::uintptr_t begin_ = 0;
  std::size_t size_ = 0;
};

}  // namespace shunt::core
