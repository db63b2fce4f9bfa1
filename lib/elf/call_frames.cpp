#include "elf/call_frames.hpp"

#include <cstring>

namespace shunt::core {
namespace {

using arch::Bytes;

// DW_EH_PE_...: how a pointer is written. The low four bits are its form, the next three what it is relative to.
constexpr std::uint8_t kPointerOmitted = 0xff, kPointerAbsolute = 0x00, kRelativeToItself = 0x10,
                       kRelativeToHeader = 0x30, kForm = 0x0f, kRelation = 0x70;
constexpr std::uint8_t kSearchTable =
    0x3b;  // two signed words of 32 bits, relative to the header: what every linker writes

/// Reads numbers one behind the other. Past the end everything is 0 and failed() is true.
class Cursor {
 public:
  Cursor(const Bytes &bytes, std::size_t at) : bytes_(bytes), at_(at) {}

  template <class Number>
  Number number() {
    Number value{};
    if (!need(sizeof value)) return value;
    std::memcpy(&value, bytes_.data + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::uint64_t unsigned_leb() {
    std::uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      const auto byte = number<std::uint8_t>();
      if (shift < 64) value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return value;
    }
  }
  std::int64_t signed_leb() {
    std::uint64_t value = 0;
    for (unsigned shift = 0;;) {
      const auto byte = number<std::uint8_t>();
      if (shift < 64) value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      shift += 7;
      if ((byte & 0x80) != 0) continue;
      if ((byte & 0x40) != 0 && shift < 64) value |= ~std::uint64_t{0} << shift;
      return static_cast<std::int64_t>(value);
    }
  }
  /// `is_size`: a length, which is relative to nothing.
  std::uint64_t pointer(std::uint8_t encoding, std::uint64_t header, bool is_size = false) {
    const std::uint64_t base = is_size                                       ? 0
                               : (encoding & kRelation) == kRelativeToItself ? bytes_.address + at_
                               : (encoding & kRelation) == kRelativeToHeader ? header
                                                                             : 0;
    if (!is_size && (encoding & kRelation) != 0 && base == 0) failed_ = true;
    const std::uint64_t value = formed(encoding & kForm);
    return value == 0 ? 0 : base + value;
  }
  void skip(std::uint64_t count) {
    if (need(count)) at_ += count;
  }
  [[nodiscard]] std::size_t at() const { return at_; }
  [[nodiscard]] bool failed() const { return failed_; }
  [[nodiscard]] bool is_at_end() const { return at_ >= bytes_.size; }

 private:
  bool need(std::uint64_t count) {
    if (at_ <= bytes_.size && count <= bytes_.size - at_) return true;
    failed_ = true;
    at_ = bytes_.size;
    return false;
  }
  std::uint64_t formed(std::uint8_t form) {
    switch (form) {
      case 0x00:
      case 0x04:
      case 0x0c:
        return number<std::uint64_t>();
      case 0x01:
        return unsigned_leb();
      case 0x02:
        return number<std::uint16_t>();
      case 0x03:
        return number<std::uint32_t>();
      case 0x09:
        return static_cast<std::uint64_t>(signed_leb());
      case 0x0a:
        return static_cast<std::uint64_t>(std::int64_t{number<std::int16_t>()});
      case 0x0b:
        return static_cast<std::uint64_t>(std::int64_t{number<std::int32_t>()});
      default:
        failed_ = true;
        return 0;
    }
  }

  Bytes bytes_;
  std::size_t at_;
  bool failed_ = false;
};

/// An entry of .eh_frame: its bytes from behind the length on.
bool read_entry(const Bytes &image, std::uint64_t address, Bytes &entry) {
  if (!image.contains(address, sizeof(std::uint32_t))) return false;
  std::uint32_t length;
  std::memcpy(&length, image.at(address), sizeof length);
  // 0 is the end, all ones a 64-bit length, which nobody writes.
  if (length < 4 || length == 0xffffffff || !image.contains(address + 4, length)) return false;
  entry = {address + 4, image.at(address + 4), length};
  return true;
}

struct Augmentation {
  std::uint8_t pointers = kPointerAbsolute, landing_pads = kPointerOmitted;
  bool has_data = false;
};

bool read_common(const Bytes &entry, std::uint64_t header, CallFrame &frame, Augmentation &augmentation) {
  Cursor cursor(entry, 0);
  if (cursor.number<std::uint32_t>() != 0) return false;  // not a CIE
  const auto version = cursor.number<std::uint8_t>();
  if (version != 1 && version != 3) return false;
  char text[8] = {};
  for (std::size_t k = 0;; ++k) {
    const auto letter = static_cast<char>(cursor.number<std::uint8_t>());
    if (letter == '\0') break;
    if (k + 1 >= sizeof text) return false;
    text[k] = letter;
  }
  frame.code_alignment = cursor.unsigned_leb();
  frame.data_alignment = cursor.signed_leb();
  frame.return_register = version == 1 ? cursor.number<std::uint8_t>() : cursor.unsigned_leb();
  if (text[0] != '\0' && text[0] != 'z') return false;
  augmentation.has_data = text[0] == 'z';
  if (augmentation.has_data) {
    const std::uint64_t size = cursor.unsigned_leb();
    const std::size_t data = cursor.at();
    for (const char *letter = text + 1; *letter != '\0'; ++letter) {
      if (*letter == 'R')
        augmentation.pointers = cursor.number<std::uint8_t>();
      else if (*letter == 'L')
        augmentation.landing_pads = cursor.number<std::uint8_t>();
      else if (*letter == 'P')
        cursor.pointer(cursor.number<std::uint8_t>() & 0x7f, header);
      else if (*letter == 'S')
        frame.is_signal_frame = true;
      else if (*letter == 'B')
        frame.signs_with_key_b = true;
      else
        return false;
    }
    if (cursor.failed() || size > entry.size - data) return false;
    cursor = Cursor(entry, data + size);
  }
  if (cursor.failed() || frame.code_alignment == 0) return false;
  frame.first_rules = {entry.address + cursor.at(), entry.data + cursor.at(), entry.size - cursor.at()};
  return true;
}

bool read_frame(const Bytes &image, std::uint64_t address, std::uint64_t header, CallFrame &frame) {
  Bytes entry, common;
  frame = CallFrame{};
  if (!read_entry(image, address, entry)) return false;
  Cursor cursor(entry, 0);
  const auto to_common = cursor.number<std::uint32_t>();  // counted backward from here
  Augmentation augmentation;
  if (to_common == 0 || !read_entry(image, entry.address - to_common, common) ||
      !read_common(common, header, frame, augmentation))
    return false;
  frame.begin = cursor.pointer(augmentation.pointers, header);
  const std::uint64_t size = cursor.pointer(augmentation.pointers, header, true);
  frame.end = frame.begin + size;
  if (augmentation.has_data) {
    const std::uint64_t data_size = cursor.unsigned_leb();
    const std::size_t data = cursor.at();
    if (cursor.failed() || data_size > entry.size - data) return false;
    if (augmentation.landing_pads != kPointerOmitted && data_size > 0)
      frame.has_landing_pads = cursor.pointer(augmentation.landing_pads & 0x7f, header) != 0;
    if (cursor.failed()) return false;
    cursor = Cursor(entry, data + data_size);
  }
  if (cursor.failed() || frame.begin == 0 || frame.end <= frame.begin) return false;
  frame.rules = {entry.address + cursor.at(), entry.data + cursor.at(), entry.size - cursor.at()};
  return true;
}

// ---- rules (DW_CFA_...)

/// Reads one rule at the cursor: `advance` is by how much it moves on, in units of code alignment. False when it is not known.
bool read_rule(Cursor &cursor, std::uint64_t &advance) {
  advance = 0;
  const auto code = cursor.number<std::uint8_t>();
  switch (code & 0xc0) {
    case 0x40:  // advance_loc
      advance = code & 0x3f;
      return true;
    case 0x80:  // offset
      cursor.unsigned_leb();
      return !cursor.failed();
    case 0xc0:  // restore
      return true;
    default:
      break;
  }
  switch (code) {
    case 0x00:  // nop
    case 0x0a:  // remember_state
    case 0x0b:  // restore_state
    case 0x2d:  // GNU_window_save; on aarch64 negate_ra_state
      return true;
    case 0x02:
      advance = cursor.number<std::uint8_t>();
      return !cursor.failed();
    case 0x03:
      advance = cursor.number<std::uint16_t>();
      return !cursor.failed();
    case 0x04:
      advance = cursor.number<std::uint32_t>();
      return !cursor.failed();
    case 0x06:  // restore_extended
    case 0x07:  // undefined
    case 0x08:  // same_value
    case 0x0d:  // def_cfa_register
    case 0x0e:  // def_cfa_offset
    case 0x13:  // def_cfa_offset_sf: as long as unsigned
    case 0x2e:  // GNU_args_size
      cursor.unsigned_leb();
      return !cursor.failed();
    case 0x05:  // offset_extended
    case 0x09:  // register
    case 0x0c:  // def_cfa
    case 0x11:  // offset_extended_sf
    case 0x12:  // def_cfa_sf
    case 0x14:  // val_offset
    case 0x15:  // val_offset_sf
    case 0x2f:  // GNU_negative_offset_extended
      cursor.unsigned_leb();
      cursor.unsigned_leb();
      return !cursor.failed();
    case 0x0f:  // def_cfa_expression
      cursor.skip(cursor.unsigned_leb());
      return !cursor.failed();
    case 0x10:  // expression
    case 0x16:  // val_expression
      cursor.unsigned_leb();
      cursor.skip(cursor.unsigned_leb());
      return !cursor.failed();
    default:  // set_loc among them: an address of the function's
      return false;
  }
}

/// Writes numbers one behind the other. Past the end nothing is written and failed() is true.
class Writer {
 public:
  explicit Writer(std::span<std::uint8_t> out) : out_(out) {}

  template <class Number>
  void number(Number value) {
    bytes(&value, sizeof value);
  }
  void bytes(const void *from, std::size_t count) {
    if (count > out_.size() - at_) {
      failed_ = true;
      return;
    }
    if (count > 0) std::memcpy(out_.data() + at_, from, count);
    at_ += count;
  }
  void unsigned_leb(std::uint64_t value) {
    do {
      const auto byte = static_cast<std::uint8_t>(value & 0x7f);
      value >>= 7;
      number<std::uint8_t>(static_cast<std::uint8_t>(byte | (value != 0 ? 0x80 : 0)));
    } while (value != 0);
  }
  void signed_leb(std::int64_t value) {
    for (;;) {
      const auto byte = static_cast<std::uint8_t>(value & 0x7f);
      value >>= 7;
      const bool is_last = (value == 0 && (byte & 0x40) == 0) || (value == -1 && (byte & 0x40) != 0);
      number<std::uint8_t>(static_cast<std::uint8_t>(byte | (is_last ? 0 : 0x80)));
      if (is_last) return;
    }
  }
  /// An entry begins: its length is filled in by end().
  void begin() {
    entry_ = at_;
    number<std::uint32_t>(0);
  }
  void end() {
    while ((at_ - entry_) % 8 != 4 && !failed_) number<std::uint8_t>(0);  // nop; with the length in front, whole words
    if (failed_) return;
    const auto length = static_cast<std::uint32_t>(at_ - entry_ - 4);
    std::memcpy(out_.data() + entry_, &length, sizeof length);
  }
  [[nodiscard]] std::size_t at() const { return at_; }
  [[nodiscard]] bool failed() const { return failed_; }

 private:
  const std::span<std::uint8_t> out_;
  std::size_t at_ = 0, entry_ = 0;
  bool failed_ = false;
};

bool copy_rules(const CallFrame &frame, std::uint64_t function, std::span<const arch::Boundary> boundaries,
                Writer &writer) {
  Cursor cursor(frame.rules, 0);
  std::uint64_t location = frame.begin - function;  // in the function, as an offset
  std::uint32_t written = 0;                        // in the trampoline
  std::size_t boundary = 0;
  while (!cursor.is_at_end()) {
    const std::size_t rule = cursor.at();
    std::uint64_t advance = 0;
    if (!read_rule(cursor, advance)) return false;
    if (advance > 0) {
      location += advance * frame.code_alignment;
      if (location > boundaries.back().function_offset) return true;  // from here on it is about what was not displaced
      continue;
    }
    while (boundaries[boundary].function_offset < location) ++boundary;
    const std::uint32_t there = boundaries[boundary].trampoline_offset;
    if (there > written) {
      writer.number<std::uint8_t>(0x04);  // advance_loc4
      writer.number<std::uint32_t>(static_cast<std::uint32_t>((there - written) / frame.code_alignment));
      written = there;
    }
    writer.bytes(frame.rules.data + rule, cursor.at() - rule);
  }
  return true;
}

}  // namespace

CallFrames::CallFrames(const Bytes &header, const Bytes &image) : header_(header), image_(image) {
  Cursor cursor(header, 0);
  const auto version = cursor.number<std::uint8_t>();
  const auto frame_pointer = cursor.number<std::uint8_t>(), count = cursor.number<std::uint8_t>(),
             table = cursor.number<std::uint8_t>();
  if (version != 1 || table != kSearchTable || count == kPointerOmitted) return;
  cursor.pointer(frame_pointer & 0x7f, header.address);
  const std::uint64_t entries = cursor.pointer(count, header.address);
  if (cursor.failed() || entries > (header.size - cursor.at()) / 8) return;
  table_ = cursor.at();
  count_ = entries;
}

std::uint64_t CallFrames::entry(std::size_t k, std::size_t word) const {
  std::int32_t value;
  std::memcpy(&value, header_.data + table_ + k * 8 + word * 4, sizeof value);
  return header_.address + static_cast<std::uint64_t>(std::int64_t{value});
}

bool CallFrames::at(std::size_t k, CallFrame &frame) const {
  return k < count_ && read_frame(image_, entry(k, 1), header_.address, frame);
}

std::size_t CallFrames::first_behind(std::uint64_t address) const {
  std::size_t low = 0, high = count_;
  while (low < high) {
    const std::size_t middle = low + (high - low) / 2;
    if (entry(middle, 0) <= address)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

bool CallFrames::find(std::uint64_t address, CallFrame &frame) const {
  const std::size_t behind = first_behind(address);
  return behind > 0 && at(behind - 1, frame) && address >= frame.begin && address < frame.end;
}

std::size_t trampoline_frame_bound(const CallFrame &frame) {
  // Each rule is at least a byte and may need five more to move on; the rest is what trampoline_frame() writes around them.
  return frame.first_rules.size + 6 * frame.rules.size + 96;
}

std::size_t trampoline_frame(const CallFrame &frame, std::uint64_t function, std::span<const arch::Boundary> boundaries,
                             std::uint64_t trampoline, std::uint32_t size, std::span<std::uint8_t> out) {
  if (frame.is_signal_frame || boundaries.empty() || frame.begin < function) return 0;
  Writer writer(out);
  writer.begin();
  writer.number<std::uint32_t>(0);  // a CIE
  writer.number<std::uint8_t>(1);
  writer.bytes(frame.signs_with_key_b ? "zRB" : "zR", frame.signs_with_key_b ? 4 : 3);
  writer.unsigned_leb(frame.code_alignment);
  writer.signed_leb(frame.data_alignment);
  if (frame.return_register > 0xff) return 0;
  writer.number<std::uint8_t>(static_cast<std::uint8_t>(frame.return_register));
  writer.unsigned_leb(1);
  writer.number<std::uint8_t>(kPointerAbsolute);
  writer.bytes(frame.first_rules.data, frame.first_rules.size);
  writer.end();
  const std::size_t second = writer.at();
  writer.begin();
  writer.number<std::uint32_t>(static_cast<std::uint32_t>(second + 4));  // back to the CIE
  writer.number<std::uint64_t>(trampoline);
  writer.number<std::uint64_t>(size);
  writer.unsigned_leb(0);
  if (!copy_rules(frame, function, boundaries, writer)) return 0;
  writer.end();
  writer.number<std::uint32_t>(0);  // the end
  return writer.failed() ? 0 : writer.at();
}

}  // namespace shunt::core
