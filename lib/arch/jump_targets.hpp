// jump_targets.hpp: which bytes of an object's code are the target of a direct jump or call from anywhere in it.
//
// A function written in assembler can be jumped into by its neighbours, and the cold part of a compiled one lies somewhere else.
// Before the first bytes of a function change, all of that must be known. One bit for each byte of code holds it. The ISA's
// find_jumps() sets too many bits rather than too few: it does not need to know where instructions begin. The shortest jumps are
// noted for the beginnings of functions only.
#pragma once

#include <algorithm>

#include "arch/code.hpp"
#include "base/page_vector.hpp"

namespace shunt::core::arch {

class JumpTargets {
 public:
  /// Looks at `text`, which must stay as long as this does. False when there is no memory. `Isa` is an ISA's struct.
  template <class Isa>
  [[nodiscard]] bool find(const Bytes &text) {
    if (!bits_.assign_zero((text.size + 63) / 64)) return false;
    text_ = text;
    Isa::find_jumps(text, [this](std::uint64_t, std::uint64_t to) {
      if (!text_.contains(to, 1)) return;
      const std::uint64_t offset = to - text_.address;
      bits_[offset / 64] |= std::uint64_t{1} << (offset % 64);
    });
    if (!aligned_.assign_zero((text.size / kAlignment + 64) / 64)) return false;
    Isa::find_short_jumps(text, [this](std::uint64_t, std::uint64_t to) {
      if (!text_.contains(to, 1) || to % kAlignment != 0) return;
      const std::uint64_t place = to / kAlignment - text_.address / kAlignment;
      aligned_[place / 64] |= std::uint64_t{1} << (place % 64);
    });
    return true;
  }

  /// Whether any code of the object may jump to or call `address`, where a function begins: one or two bits are looked at.
  template <class Isa>
  [[nodiscard]] bool leads_to(std::uint64_t address) const {
    if (any(address, address + 1)) return true;
    const std::uint64_t place = address / kAlignment - text_.address / kAlignment;
    if (address % kAlignment == 0) return (aligned_[place / 64] >> (place % 64) & 1) != 0;
    bool found = false;
    const std::uint64_t begin = address - text_.address < kShort ? text_.address : address - kShort;
    const std::size_t size = std::min<std::size_t>(2 * kShort, text_.address + text_.size - begin);
    Isa::find_short_jumps({begin, text_.at(begin), size},
                          [&](std::uint64_t, std::uint64_t to) { found = found || to == address; });
    return found;
  }

  /// Whether code outside [own, own + own_size) jumps to one of [begin, end); `to` is one such target then.
  template <class Isa>
  [[nodiscard]] bool lead_to(std::uint64_t begin, std::uint64_t end, std::uint64_t own, std::size_t own_size,
                             std::uint64_t &to) const {
    if (!any(begin, end)) return false;
    bool found = false;
    Isa::find_jumps(text_, [&](std::uint64_t from, std::uint64_t target) {
      if (target < begin || target >= end || (from >= own && from - own < own_size)) return;
      found = true;
      to = target;
    });
    return found;
  }

 private:
  [[nodiscard]] bool any(std::uint64_t begin, std::uint64_t end) const {
    for (std::uint64_t at = begin; at < end; ++at) {
      const std::uint64_t offset = at - text_.address;
      if (text_.contains(at, 1) && (bits_[offset / 64] >> (offset % 64) & 1) != 0) return true;
    }
    return false;
  }

  static constexpr std::uint64_t kAlignment = 16;  // of functions
  static constexpr std::uint64_t kShort = 130;     // what the shortest jumps span

  Bytes text_;
  PageVector<std::uint64_t> bits_;
  PageVector<std::uint64_t> aligned_;  // what short jumps lead to, one bit for each kAlignment bytes
};

}  // namespace shunt::core::arch
