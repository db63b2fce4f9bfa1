// Moves displaced instructions to a trampoline. Twice over the same bytes: first how long each becomes there, which gives the
// place of every one, then the bytes themselves, for which jumps among them need those places.
#include <cstring>
#include <limits>

#include "arch/x86_64/code.hpp"
#include "arch/x86_64/decoder.hpp"

namespace shunt::core::arch {
namespace {

using namespace x86_64;

bool fits_32(std::uint64_t from, std::uint64_t to) {
  const auto distance = static_cast<std::int64_t>(to - from);
  return distance >= std::numeric_limits<std::int32_t>::min() && distance <= std::numeric_limits<std::int32_t>::max();
}

void put_32(std::uint8_t *to, std::uint64_t value) {
  const auto low = static_cast<std::uint32_t>(value);
  std::memcpy(to, &low, sizeof low);
}

/// jmp [rip]; the address behind it.
void put_far_jump(std::uint8_t *out, std::uint64_t target) {
  const std::uint8_t jump[] = {0xff, 0x25, 0, 0, 0, 0};
  std::memcpy(out, jump, sizeof jump);
  std::memcpy(out + sizeof jump, &target, sizeof target);
}

constexpr std::uint32_t kNearJump = 5, kFarJump = X86_64Code::kStubBytes;

class Relocator {
 public:
  Relocator(const EntryPlan &plan, const Bytes &body, std::uint64_t address, std::span<std::uint8_t> code,
            std::span<Boundary> boundaries)
      : plan_(plan), body_(body), address_(address), code_(code), boundaries_(boundaries) {}

  Relocated run(std::uint32_t &size) {
    if (!place()) return result_;
    Instruction instruction;
    for (std::uint32_t k = 0; k < plan_.instructions; ++k) {
      const Boundary &at = boundaries_[k];
      if (!decode(body_, at.function_offset, instruction)) return Relocated::impossible;
      if (!put(instruction, at)) return result_;
    }
    const std::uint32_t back = boundaries_[plan_.instructions].trampoline_offset;
    put_jump(back, body_.address + plan_.displaced);
    size = back + jump_size(back, body_.address + plan_.displaced);
    return Relocated::done;
  }

 private:
  bool fail(Relocated result) {
    result_ = result;
    return false;
  }

  /// Where everything goes.
  bool place() {
    if (boundaries_.size() < std::size_t{plan_.instructions} + 1 || code_.size() < plan_.trampoline_bytes)
      return fail(Relocated::no_room);
    std::uint32_t from = 0, to = 0;
    for (std::uint32_t k = 0; k < plan_.instructions; ++k) {
      boundaries_[k] = {from, to};
      Instruction instruction;
      if (from >= plan_.displaced || !decode(body_, from, instruction)) return fail(Relocated::impossible);
      to += size_of(instruction, to);
      from += instruction.length;
    }
    boundaries_[plan_.instructions] = {from, to};
    if (from != plan_.displaced) return fail(Relocated::impossible);
    return to + kFarJump <= plan_.trampoline_bytes || fail(Relocated::impossible);
  }

  /// A displaced instruction's target, unless that is a displaced instruction too. A call goes to the entry like everybody's.
  [[nodiscard]] bool is_inner(const Instruction &instruction) const {
    return instruction.jumps() && instruction.target - body_.address < plan_.displaced;
  }

  [[nodiscard]] std::uint32_t jump_size(std::uint32_t at, std::uint64_t target) const {
    return fits_32(address_ + at + kNearJump, target) ? kNearJump : kFarJump;
  }

  [[nodiscard]] std::uint32_t size_of(const Instruction &instruction, std::uint32_t at) const {
    // The distance to the target is taken from a place nearby: 64 bytes of doubt make a near target a far one, which works too.
    const bool is_near = is_inner(instruction) || (fits_32(address_ + at - 64, instruction.target) &&
                                                   fits_32(address_ + at + 64, instruction.target));
    switch (instruction.kind) {
      case Kind::jump:
        return is_near ? kNearJump : kFarJump;
      case Kind::conditional:
        return is_near ? 6 : 2 + kFarJump;
      case Kind::call:
        return is_near ? kNearJump : kFarJump + 2;
      case Kind::loop:
        return 4 + (instruction.length - 2U) + (is_near ? kNearJump : kFarJump);
      default:
        return instruction.length;
    }
  }

  bool put(const Instruction &instruction, const Boundary &at) {
    std::uint8_t *out = code_.data() + at.trampoline_offset;
    const std::uint8_t *in = body_.data + at.function_offset;
    std::uint64_t target = instruction.target;
    if (is_inner(instruction) && !find_inner(target)) return fail(Relocated::impossible);
    const std::uint32_t size = size_of(instruction, at.trampoline_offset);
    const std::uint64_t end = address_ + at.trampoline_offset + size;
    switch (instruction.kind) {
      case Kind::jump:
        put_jump(at.trampoline_offset, target, size);
        return true;
      case Kind::conditional:
        put_conditional(out, instruction.condition, target, size, end);
        return true;
      case Kind::call:
        put_call(out, target, size, end);
        return true;
      case Kind::loop: {
        // loop +2; jmp over; jmp target: the loop's own prefix (jecxz) and opcode stay.
        std::memcpy(out, in, instruction.length);
        const std::uint32_t far = size - instruction.length - 2U;
        out[instruction.length - 1] = 2;
        out[instruction.length] = 0xeb;
        out[instruction.length + 1] = static_cast<std::uint8_t>(far);
        put_jump(at.trampoline_offset + instruction.length + 2U, target, far);
        return true;
      }
      case Kind::odd_relative:
        return fail(Relocated::impossible);
      default:
        break;
    }
    std::memcpy(out, in, instruction.length);
    if (instruction.displacement_size == 0) return true;
    if (!fits_32(end, target)) return fail(Relocated::out_of_reach);
    put_32(out + instruction.displacement_at, target - end);
    return true;
  }

  /// The place in the trampoline of the displaced instruction at `target`.
  bool find_inner(std::uint64_t &target) const {
    for (std::uint32_t k = 0; k < plan_.instructions; ++k) {
      if (body_.address + boundaries_[k].function_offset != target) continue;
      target = address_ + boundaries_[k].trampoline_offset;
      return true;
    }
    return false;
  }

  void put_jump(std::uint32_t at, std::uint64_t target) { put_jump(at, target, jump_size(at, target)); }
  void put_jump(std::uint32_t at, std::uint64_t target, std::uint32_t size) {
    std::uint8_t *out = code_.data() + at;
    if (size == kFarJump) return put_far_jump(out, target);
    out[0] = 0xe9;
    put_32(out + 1, target - (address_ + at + kNearJump));
  }

  static void put_conditional(std::uint8_t *out, std::uint8_t condition, std::uint64_t target, std::uint32_t size,
                              std::uint64_t end) {
    if (size == 6) {
      out[0] = 0x0f;
      out[1] = static_cast<std::uint8_t>(0x80 | condition);
      return put_32(out + 2, target - end);
    }
    out[0] = static_cast<std::uint8_t>(0x70 | (condition ^ 1));  // the opposite condition jumps over a far jump
    out[1] = kFarJump;
    put_far_jump(out + 2, target);
  }

  static void put_call(std::uint8_t *out, std::uint64_t target, std::uint32_t size, std::uint64_t end) {
    if (size == kNearJump) {
      out[0] = 0xe8;
      return put_32(out + 1, target - end);
    }
    const std::uint8_t call[] = {0xff, 0x15, 2, 0, 0, 0, 0xeb, 8};  // call [rip + 2]; jmp over the address
    std::memcpy(out, call, sizeof call);
    std::memcpy(out + sizeof call, &target, sizeof target);
  }

  const EntryPlan &plan_;
  const Bytes &body_;
  const std::uint64_t address_;
  const std::span<std::uint8_t> code_;
  const std::span<Boundary> boundaries_;
  Relocated result_ = Relocated::done;
};

CodeBytes near_jump(std::uint64_t address, std::uint64_t target) {
  CodeBytes jump = {address, kNearJump, {0xe9}};
  put_32(jump.bytes + 1, target - (address + kNearJump));
  return jump;
}

}  // namespace

bool X86_64Code::reaches(const EntryPlan &plan, std::uint64_t function, std::uint64_t target) {
  const std::uint64_t jump = plan.form == JumpForm::in_padding ? function - plan.padding : function + plan.site;
  return fits_32(jump + kNearJump, target);
}

EntryBytes X86_64Code::entry_bytes(const EntryPlan &plan, std::uint64_t function, std::uint64_t target) {
  const std::uint64_t site = function + plan.site;
  EntryBytes bytes;
  if (plan.form != JumpForm::in_padding) {
    bytes.entry = near_jump(site, target);
    return bytes;
  }
  const std::uint64_t padding = function - plan.padding;
  bytes.padding = near_jump(padding, target);
  bytes.entry = {site, 2, {0xeb, static_cast<std::uint8_t>(padding - (site + 2))}};
  return bytes;
}

CodeBytes X86_64Code::stub(std::uint64_t address, std::uint64_t target) {
  CodeBytes stub = {address, kStubBytes, {}};
  put_far_jump(stub.bytes, target);
  return stub;
}

Relocated X86_64Code::relocate(const EntryPlan &plan, const Bytes &body, std::uint64_t address,
                               std::span<std::uint8_t> code, std::span<Boundary> boundaries, std::uint32_t &size) {
  if (!is_ready() && size_of_return(body) != body.size && !ready()) return Relocated::impossible;
  return Relocator(plan, body, address, code, boundaries).run(size);
}

}  // namespace shunt::core::arch
