// jump_targets.hpp: which bytes of an object's code are the target of a direct jump or call from anywhere in it.
//
// A function written in assembler can be jumped into by its neighbours, and the cold part of a compiled one lies somewhere else.
// Before the first bytes of a function change, all of that must be known. One bit for each byte of code holds it. The ISA's
// find_jumps() sets too many bits rather than too few: it does not need to know where instructions begin. The targets of the
// shortest jumps are noted apart, since most of what looks like one is none, and so are addresses that code takes: they say whether
// somebody may call a function, not that its first bytes cannot change.
#pragma once

#include "arch/code.hpp"
#include "base/page_vector.hpp"

namespace shunt::core::arch {

class JumpTargets {
 public:
  /// Looks at `text`, which must stay as long as this does. False when there is no memory. `Isa` is an ISA's struct.
  template <class Isa>
  [[nodiscard]] bool find(const Bytes &text) {
    const std::size_t words = (text.size + 63) / 64;
    if (!bits_.assign_zero(words) || !other_bits_.assign_zero(words)) return false;
    text_ = text;
    Isa::find_jumps(text, [this](std::uint64_t, std::uint64_t to) { set(bits_, to); });
    Isa::find_other_uses(text, [this](std::uint64_t to) { set(other_bits_, to); });
    return true;
  }

  /// Whether any code of the object may jump to `address`, call it or keep it, where a function begins: two bits are looked at.
  [[nodiscard]] bool leads_to(std::uint64_t address) const {
    return text_.contains(address, 1) && (is_set(bits_, address) || is_set(other_bits_, address));
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
    for (std::uint64_t at = begin; at < end; ++at)
      if (text_.contains(at, 1) && is_set(bits_, at)) return true;
    return false;
  }

  [[nodiscard]] bool is_set(const PageVector<std::uint64_t> &bits, std::uint64_t address) const {
    const std::uint64_t offset = address - text_.address;
    return (bits[offset / 64] >> (offset % 64) & 1) != 0;
  }
  void set(PageVector<std::uint64_t> &bits, std::uint64_t address) {
    const std::uint64_t offset = address - text_.address;
    if (text_.contains(address, 1)) bits[offset / 64] |= std::uint64_t{1} << (offset % 64);
  }

  Bytes text_;
  PageVector<std::uint64_t> bits_;
  PageVector<std::uint64_t> other_bits_;  // the targets of the shortest jumps, and addresses that are taken
};

}  // namespace shunt::core::arch
