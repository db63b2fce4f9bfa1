#include "arch/aarch64/code.hpp"

#include <cstring>

#include "arch/jump_targets.hpp"

namespace shunt::core::arch {
namespace {

using namespace aarch64;

constexpr std::size_t kLongestFunction = std::size_t{16} << 20;
constexpr std::uint32_t kScratch = 16, kNoRegister = 31;
constexpr std::uint32_t kJump = 0x14000000, kAdrp = 0x90000000, kAdd = 0x91000000;

Instruction decode_at(const Bytes &code, std::size_t offset) {
  return decode(word_at(code.data + offset), code.address + offset);
}

/// The other instructions of the body, and its parts: whether one leads to [0, end of what changes), or may.
bool leads_back(const Function &function, const Bytes &code, EntryPlan &plan) {
  const std::uint64_t entry = function.body.address;
  bool computes = false, names_own_code = false;
  const auto refuse = [&plan](Refusal refusal, std::uint64_t at) {
    plan.refusal = refusal;
    plan.refused_at = static_cast<std::uint32_t>(at);
    return true;
  };
  std::uint64_t computed_at = 0;
  for (std::size_t at = 0; at + 4 <= code.size; at += 4) {
    const Instruction one = decode_at(code, at);
    const std::uint64_t offset = code.address + at - entry;
    if (one.kind == Kind::jump_through) {
      computes = true;
      computed_at = offset;
    }
    if (one.kind == Kind::adr && one.target != entry && function.body.contains(one.target, 4)) names_own_code = true;
    if (offset < plan.displaced) continue;
    const bool calls_inside = one.kind == Kind::call && one.target != entry;
    const bool is_within = one.target - entry < plan.site + plan.changed;
    if (is_within && (one.jumps() || calls_inside)) return refuse(Refusal::jumps_back, offset);
    if (is_within && one.kind == Kind::load) return refuse(Refusal::reads_own_code, offset);
  }
  return computes && names_own_code && refuse(Refusal::unknown_jump_table, computed_at);
}

Refusal why_not_displaced(const Function &function, const EntryPlan &plan, const Instruction &one, std::uint32_t at) {
  const std::uint64_t offset = one.target - function.body.address;
  if (one.kind == Kind::call && offset == at + 4) return Refusal::reads_own_address;
  if (one.kind == Kind::call && function.has_landing_pads) return Refusal::has_landing_pads;
  if (one.jumps() && offset < plan.displaced) return Refusal::unrelocatable;
  if (one.kind == Kind::load && offset + 16 > plan.site && offset < plan.site + plan.changed)
    return Refusal::reads_own_code;
  return Refusal::none;
}

/// Writes the words of a trampoline one behind the other.
class Relocator {
 public:
  Relocator(std::uint64_t address, std::span<std::uint8_t> code) : address_(address), code_(code) {}

  [[nodiscard]] std::uint32_t size() const { return size_; }

  bool put(const Instruction &one) {
    switch (one.kind) {
      case Kind::plain:
      case Kind::jump_through:
        return put(one.word);
      case Kind::adrp:
      case Kind::jump:
      case Kind::call:
        return put_aimed(one.word, one.kind, one.target);
      case Kind::adr:
        // Into no register it is a NOP; the pair would write the stack pointer.
        return (one.word & 31) == kNoRegister ? put(kNop) : put_address(one.word & 31, one.target);
      case Kind::load:
        return put_load(one);
      case Kind::conditional:
        // "Always" has no opposite.
        if ((one.word & 0xe) == 0xe) return put_aimed(kJump, Kind::jump, one.target);
        return put_over(one.word ^ 1, one);
      case Kind::compare:
      case Kind::test:
        return put_over(one.word ^ (std::uint32_t{1} << 24), one);
    }
    return false;
  }

  bool put_aimed(std::uint32_t word, Kind kind, std::uint64_t target) {
    return aim(word, kind, address_ + size_, target) && put(word);
  }

 private:
  bool put(std::uint32_t word) {
    if (size_ + 4 > code_.size()) return false;
    put_word(code_.data() + size_, word);
    size_ += 4;
    return true;
  }

  /// adrp and add
  bool put_address(std::uint32_t to, std::uint64_t target) {
    const auto low = static_cast<std::uint32_t>(target & 4095);
    return put_aimed(kAdrp | to, Kind::adrp, target) && put(kAdd | low << 10 | to << 5 | to);
  }

  bool put_load(const Instruction &one) {
    const std::uint32_t to = one.word & 31, operation = one.word >> 30;
    const bool is_simd = (one.word & 0x04000000) != 0, is_prefetch = !is_simd && operation == 3;
    const std::uint32_t address = is_simd || is_prefetch || to == kNoRegister ? kScratch : to;
    if (!put_address(address, one.target)) return false;
    // The same with an unsigned offset of 0 to a register: ldr w, ldr x, ldrsw, prfm; ldr s, ldr d, ldr q.
    constexpr std::uint32_t kGeneral[] = {0xb9400000, 0xf9400000, 0xb9800000, 0xf9800000};
    constexpr std::uint32_t kSimd[] = {0xbd400000, 0xfd400000, 0x3dc00000, 0};
    return put((is_simd ? kSimd : kGeneral)[operation] | address << 5 | to);
  }

  /// The opposite condition over a jump.
  bool put_over(std::uint32_t opposite, const Instruction &one) {
    return put_aimed(opposite, one.kind, address_ + size_ + 8) && put_aimed(kJump, Kind::jump, one.target);
  }

  const std::uint64_t address_;
  const std::span<std::uint8_t> code_;
  std::uint32_t size_ = 0;
};

std::uint64_t jump_address(const EntryPlan &plan, std::uint64_t function) {
  return function + plan.site + plan.changed - 4;  // behind bti c where that takes the place of paciasp
}

}  // namespace

std::size_t Aarch64Code::size_of_return(const Bytes &code) {
  constexpr std::uint32_t kReturn = 0xd65f03c0;  // ret x30
  if (code.size >= 4 && word_at(code.data) == kReturn) return 4;
  return code.size >= 8 && word_at(code.data) == kBtiC && word_at(code.data + 4) == kReturn ? 8 : 0;
}

EntryPlan Aarch64Code::plan(const Function &function) {
  const Bytes &body = function.body;
  EntryPlan plan, refused;
  const auto refuse = [&refused](Refusal refusal, std::uint64_t at) {
    refused.refusal = refusal;
    refused.refused_at = static_cast<std::uint32_t>(at);
    return refused;
  };
  if (body.size == 0 || body.size > kLongestFunction || body.address % 4 != 0) return refuse(Refusal::size_unknown, 0);
  if (body.size < 4) return refuse(Refusal::too_short, 0);
  const std::uint32_t first = word_at(body.data);
  plan.site = is_bti(first) ? 4 : 0;
  plan.changed = is_sign(first) ? 8 : 4;
  plan.displaced = plan.site + plan.changed;
  plan.instructions = plan.displaced / 4;
  plan.has_inner_boundary = plan.changed > 4;
  plan.trampoline_bytes = plan.displaced + 12;  // of one instruction three at most become of it, and a jump back
  if (body.size < plan.displaced) return refuse(Refusal::too_short, 0);
  for (std::uint32_t at = 0; at < plan.displaced; at += 4) {
    const Instruction one = decode_at(body, at);
    if (const Refusal why = why_not_displaced(function, plan, one, at); why != Refusal::none) return refuse(why, at);
    plan.has_call = plan.has_call || one.kind == Kind::call || (one.word & 0xfefff000) == 0xd63f0000;  // bl; blr, blraa
  }
  if (leads_back(function, body, plan)) return refuse(plan.refusal, plan.refused_at);
  for (const Bytes &part : function.parts)
    if (leads_back(function, part, plan)) return refuse(plan.refusal, plan.refused_at);
  const std::uint64_t begin = body.address + plan.site + 4, end = body.address + plan.displaced;
  std::uint64_t to = 0;
  if (function.jumps != nullptr && function.jumps->lead_to<Aarch64Code>(begin, end, body.address, body.size, to))
    return refuse(Refusal::jumped_into, to - body.address);
  plan.form = JumpForm::whole;
  return plan;
}

bool Aarch64Code::reaches(const EntryPlan &plan, std::uint64_t function, std::uint64_t target) {
  std::uint32_t word = kJump;
  return aim(word, Kind::jump, jump_address(plan, function), target);
}

EntryBytes Aarch64Code::entry_bytes(const EntryPlan &plan, std::uint64_t function, std::uint64_t target) {
  EntryBytes bytes;
  bytes.entry = {function + plan.site, plan.changed, {}};
  std::uint32_t word = kJump;
  aim(word, Kind::jump, jump_address(plan, function), target);
  if (plan.changed > 4) put_word(bytes.entry.bytes, kBtiC);
  put_word(bytes.entry.bytes + plan.changed - 4, word);
  return bytes;
}

CodeBytes Aarch64Code::stub(std::uint64_t address, std::uint64_t target) {
  CodeBytes stub = {address, kStubBytes, {}};
  put_word(stub.bytes, 0x58000050);      // ldr x16, the address behind
  put_word(stub.bytes + 4, 0xd61f0200);  // br x16: to bti c, as a call does
  put_word(stub.bytes + 8, static_cast<std::uint32_t>(target));
  put_word(stub.bytes + 12, static_cast<std::uint32_t>(target >> 32));
  return stub;
}

Relocated Aarch64Code::relocate(const EntryPlan &plan, const Bytes &body, std::uint64_t address,
                                std::span<std::uint8_t> code, std::span<Boundary> boundaries, std::uint32_t &size) {
  if (boundaries.size() < std::size_t{plan.instructions} + 1 || code.size() < plan.trampoline_bytes)
    return Relocated::no_room;
  if (body.size < plan.displaced) return Relocated::impossible;
  Relocator relocator(address, code);
  for (std::uint32_t k = 0; k < plan.instructions; ++k) {
    boundaries[k] = {k * 4, relocator.size()};
    if (!relocator.put(decode_at(body, k * 4))) return Relocated::out_of_reach;
  }
  boundaries[plan.instructions] = {plan.displaced, relocator.size()};
  if (!relocator.put_aimed(kJump, Kind::jump, body.address + plan.displaced)) return Relocated::out_of_reach;
  size = relocator.size();
  return Relocated::done;
}

}  // namespace shunt::core::arch
