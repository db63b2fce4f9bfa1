#include "objects/object_code.hpp"

#include <algorithm>
#include <new>

#include "arch/native_code.hpp"

namespace shunt::core {

ObjectCode::ObjectCode(const Image &image) : low_(image.low()), high_(image.high()) {
  arch::Bytes frames, around_frames;
  for (const Elf64_Phdr &header : image.headers()) {
    const std::uintptr_t address = image.base() + header.p_vaddr;
    const arch::Bytes bytes{address, reinterpret_cast<const std::uint8_t *>(address), header.p_memsz};
    if (header.p_type == PT_GNU_EH_FRAME && image.segment_at(address, header.p_memsz) != nullptr) frames = bytes;
    if (header.p_type != PT_LOAD || (header.p_flags & PF_R) == 0) continue;
    if ((header.p_flags & PF_X) != 0) {
      if (text_count_ < kMaximumTexts) texts_[text_count_++] = bytes;
    } else if (data_count_ < kMaximumData) {
      data_[data_count_++] = {address, bytes.data, header.p_filesz};
    }
  }
  for (const std::span<const arch::Bytes> segments : {data(), texts()})
    for (const arch::Bytes &one : segments)
      if (frames.size > 0 && one.contains(frames.address, frames.size)) around_frames = one;
  if (around_frames.size > 0) frames_ = CallFrames(frames, around_frames);
}

const arch::Bytes *ObjectCode::text_at(std::uintptr_t address, std::size_t size) const {
  for (const arch::Bytes &one : texts())
    if (one.contains(address, size)) return &one;
  return nullptr;
}

const arch::JumpTargets *ObjectCode::jumps(const arch::Bytes &text) {
  std::unique_ptr<arch::JumpTargets> &found = jumps_[position_of(text)];
  if (found == nullptr) {
    auto targets = std::unique_ptr<arch::JumpTargets>(new (std::nothrow) arch::JumpTargets);
    if (targets == nullptr || !targets->find<arch::NativeCode>(text)) return nullptr;
    found = std::move(targets);
  }
  return found.get();
}

}  // namespace shunt::core
