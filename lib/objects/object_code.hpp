// object_code.hpp: the code of one object, as entry redirects need it: where it lies, how its frames are unwound, and which of
// its bytes direct jumps and calls lead to.
//
// Only program headers are copied: the bytes stay where they are, so the object must stay loaded while this is asked.
#pragma once

#include <array>
#include <memory>
#include <span>

#include "arch/jump_targets.hpp"
#include "base/page_vector.hpp"
#include "elf/call_frames.hpp"
#include "elf/image.hpp"

namespace shunt::core {

class ObjectCode {
 public:
  /// Takes nothing from malloc: may be called inside ObjectTable::while_locked().
  explicit ObjectCode(const Image &image);
  ObjectCode() = default;

  /// Lowest address of the object; its end.
  [[nodiscard]] std::uintptr_t low() const { return low_; }
  [[nodiscard]] std::uintptr_t high() const { return high_; }
  /// The readable code, one segment each.
  [[nodiscard]] std::span<const arch::Bytes> texts() const { return {texts_.data(), text_count_}; }
  /// The segment of code that holds `size` bytes at `address`, or NULL.
  [[nodiscard]] const arch::Bytes *text_at(std::uintptr_t address, std::size_t size = 1) const;
  /// The readable segments that are no code, as far as the file fills them.
  [[nodiscard]] std::span<const arch::Bytes> data() const { return {data_.data(), data_count_}; }
  /// What .eh_frame says of the function that holds `address`.
  bool frame_at(std::uintptr_t address, CallFrame &frame) const { return frames_.find(address, frame); }
  [[nodiscard]] const CallFrames &frames() const { return frames_; }

  /// The targets of the direct jumps and calls in `text`, one of texts(). Found at the first call, which reads all of the code and
  /// takes a quarter of its size in pages; NULL when there is no memory.
  [[nodiscard]] const arch::JumpTargets *jumps(const arch::Bytes &text);
  /// Whether an aligned word of data() holds `address`, and `is_slot(place)` is not true of it. Of a loaded object: in a file
  /// most such words are filled in by the dynamic linker. Symbol tables, which name functions and call none, are passed over.
  /// (Between variables lies what AddressSanitizer watches.)
  template <class IsSlot>
  [[nodiscard]] __attribute__((no_sanitize_address)) bool keeps(std::uintptr_t address, IsSlot is_slot) const {
    for (const arch::Bytes &one : data()) {
      if (one.address == low_) continue;  // headers and tables
      for (std::size_t at = -one.address % sizeof address; at + sizeof address <= one.size; at += sizeof address) {
        const auto *const word = reinterpret_cast<const std::uintptr_t *>(one.data + at);
        if (__atomic_load_n(word, __ATOMIC_RELAXED) == address && !is_slot(one.address + at)) return true;
      }
    }
    return false;
  }

 private:
  // Linkers write one segment of code, and up to four others. What is beyond is not looked at, and cannot be redirected.
  static constexpr std::size_t kMaximumTexts = 4, kMaximumData = 12;

  std::uintptr_t low_ = 0, high_ = 0;
  std::array<arch::Bytes, kMaximumTexts> texts_;
  std::array<arch::Bytes, kMaximumData> data_;
  std::size_t text_count_ = 0, data_count_ = 0;
  CallFrames frames_{{}, {}};
  [[nodiscard]] std::size_t position_of(const arch::Bytes &text) const {
    return static_cast<std::size_t>(&text - texts_.data());
  }

  std::array<std::unique_ptr<arch::JumpTargets>, kMaximumTexts> jumps_;
};

}  // namespace shunt::core
