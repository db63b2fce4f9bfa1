// Which bytes of a function may become a jump. The forms are tried from the one that changes least to the one that copies most;
// the first that is safe is taken, and when none is, the reason is that of the plain form.
#include <cstring>

#include "arch/jump_targets.hpp"
#include "arch/x86_64/body.hpp"
#include "arch/x86_64/code.hpp"

namespace shunt::core::arch {
namespace {

using namespace x86_64;

constexpr std::uint32_t kShortJump = 2, kJump = 5;
constexpr std::size_t kLongestFunction = std::size_t{16} << 20;  // a symbol that says more is not believed
constexpr std::size_t kLongestCopy = 4096;
constexpr std::size_t kPaddingLookedAt = 64;

/// Whether [from, from + at least `needed`) is padding and ends with an instruction within `code`.
bool is_padding(const Bytes &code, std::size_t from, std::size_t needed) {
  std::size_t at = from;
  while (at < from + needed) {
    Instruction instruction;
    if (!decode(code, at, instruction) || instruction.kind != Kind::padding) return false;
    at += instruction.length;
  }
  return true;
}

class Planner {
 public:
  explicit Planner(const Function &function) : function_(function), body_(function.body) {}

  EntryPlan plan() {
    Instruction first;
    if (body_.size == 0 || body_.size > kLongestFunction) return refused(Refusal::size_unknown, 0);
    if (!decode(body_, 0, first)) return refused(Refusal::unknown_instruction, 0);
    if (first.kind == Kind::endbr) site_ = first.length;
    EntryPlan plan, reason;
    // NOPs that somebody put at the entry are there for this.
    Instruction at_site;
    const bool is_prepared = decode(body_, site_, at_site) && at_site.kind == Kind::padding;
    if (is_prepared && in_padding(plan)) return plan;
    if (body_.size < site_ + kJump ? over_padding(reason) : whole(reason, false)) return reason;
    if (in_padding(plan) || whole(plan, true)) return plan;
    return reason;
  }

 private:
  static EntryPlan refused(Refusal refusal, std::uint32_t at) {
    EntryPlan plan;
    plan.refusal = refusal;
    plan.refused_at = at;
    return plan;
  }
  static bool refuse(EntryPlan &plan, Refusal refusal, std::uint32_t at) {
    plan = refused(refusal, at);
    return false;
  }

  bool whole(EntryPlan &plan, bool copies_body) {
    plan = EntryPlan{};
    if (body_.size < site_ + kJump) return refuse(plan, Refusal::too_short, 0);
    if (copies_body && body_.size > kLongestCopy) return refuse(plan, Refusal::jumps_back, 0);
    plan.form = JumpForm::whole;
    plan.changed = kJump;
    plan.copies_body = copies_body;
    return complete(plan);
  }

  bool over_padding(EntryPlan &plan) {
    plan = EntryPlan{};
    if (body_.size <= site_) return refuse(plan, Refusal::too_short, 0);
    const std::size_t needed = site_ + kJump - body_.size;
    const Bytes behind = {body_.address, body_.data, body_.size + function_.after};
    if (needed > function_.after || !is_padding(behind, body_.size, needed)) return refuse(plan, Refusal::too_short, 0);
    plan.form = JumpForm::over_padding;
    plan.changed = kJump;
    return complete(plan);
  }

  bool in_padding(EntryPlan &plan) {
    plan = EntryPlan{};
    if (body_.size < site_ + kShortJump || !has_padding_before()) return refuse(plan, Refusal::too_short, 0);
    plan.form = JumpForm::in_padding;
    plan.changed = kShortJump;
    plan.padding = kJump;
    return complete(plan);
  }

  [[nodiscard]] bool has_padding_before() const {
    const std::size_t before = function_.before < kPaddingLookedAt ? function_.before : kPaddingLookedAt;
    for (std::size_t size = before; size >= kJump; --size) {
      const Bytes padding = {body_.address - size, body_.data - size, size};
      if (is_padding(padding, 0, size)) return true;
    }
    return false;
  }

  /// Fills in what is displaced, and checks it and everything that leads to it.
  bool complete(EntryPlan &plan) {
    plan.site = site_;
    return displace(plan) && check_body(plan) && check_elsewhere(plan);
  }

  bool displace(EntryPlan &plan) {
    const auto size = static_cast<std::uint32_t>(body_.size);
    const std::uint32_t end = plan.copies_body ? size : site_ + plan.changed;
    Instruction last;
    while (plan.displaced < end && plan.displaced < size) {
      const std::uint32_t at = plan.displaced;
      if (!decode(body_, at, last)) return refuse(plan, Refusal::unknown_instruction, at);
      plan.displaced += last.length;
      plan.instructions += 1;
      plan.trampoline_bytes += relocated_size(last);
      if (at > site_ && at < site_ + plan.changed) plan.has_inner_boundary = true;
      if (!check_displaced(plan, last, at)) return false;
    }
    plan.trampoline_bytes += X86_64Code::kStubBytes;  // back to the function
    if (plan.displaced < site_ + plan.changed && last.runs_on()) return refuse(plan, Refusal::falls_through, 0);
    return true;
  }

  /// At most: every target far away.
  static std::uint32_t relocated_size(const Instruction &instruction) {
    constexpr std::uint32_t kFar = X86_64Code::kStubBytes;
    switch (instruction.kind) {
      case Kind::jump:
        return kFar;
      case Kind::conditional:
      case Kind::call:
        return kFar + 2;
      case Kind::loop:
        return kFar + 5;
      default:
        return instruction.length;
    }
  }

  bool check_displaced(EntryPlan &plan, const Instruction &instruction, std::uint32_t at) {
    const std::uint64_t target = instruction.target - body_.address;
    switch (instruction.kind) {
      case Kind::odd_relative:
        return refuse(plan, Refusal::unrelocatable, at);
      case Kind::call:
        if (target != 0 && target < body_.size) return refuse(plan, Refusal::reads_own_address, at);
        [[fallthrough]];
      case Kind::call_through:
        if (function_.has_landing_pads) return refuse(plan, Refusal::has_landing_pads, at);
        plan.has_call = true;
        break;
      case Kind::jump_through:
        // A computed jump would leave the copy in the middle of its loop.
        if (plan.copies_body && !instruction.names_memory_by_rip) return refuse(plan, Refusal::jumps_back, at);
        break;
      default:
        break;
    }
    const std::uint64_t site = body_.address + site_;
    if (instruction.uses(site, site + plan.changed)) return refuse(plan, Refusal::reads_own_code, at);
    // The address of an instruction of the body: whoever goes there is back in the original.
    const bool names_own_code = instruction.names_memory_by_rip && target != 0 && target < body_.size;
    return !(plan.copies_body && names_own_code) || refuse(plan, Refusal::jumps_back, at);
  }

  bool check_body(EntryPlan &plan) {
    if (plan.copies_body && !function_.parts.empty()) return refuse(plan, Refusal::jumps_back, 0);
    const BodyFacts facts = look_at_body(function_, plan.displaced, site_, plan.changed);
    if (facts.refusal != Refusal::none) return refuse(plan, facts.refusal, facts.refused_at);
    return check_inner_jumps(plan);
  }

  /// A displaced instruction that jumps to the displaced bytes jumps to the beginning of one of them.
  bool check_inner_jumps(EntryPlan &plan) {
    Instruction instruction;
    for (std::uint32_t at = 0; at < plan.displaced && decode(body_, at, instruction); at += instruction.length) {
      if (instruction.jumps() && instruction.target - body_.address < plan.displaced &&
          !is_boundary(instruction.target))
        return refuse(plan, Refusal::unrelocatable, at);
    }
    return true;
  }

  [[nodiscard]] bool is_boundary(std::uint64_t target) const {
    Instruction instruction;
    std::uint32_t at = 0;
    while (body_.address + at < target && decode(body_, at, instruction)) at += instruction.length;
    return body_.address + at == target;
  }

  bool check_elsewhere(EntryPlan &plan) {
    if (function_.jumps == nullptr) return !plan.copies_body || refuse(plan, Refusal::jumps_back, 0);
    const std::uint64_t entry = body_.address;
    const std::uint64_t begin = entry + (plan.copies_body ? 1 : site_ + 1);
    const std::uint64_t end = entry + (plan.copies_body ? body_.size : site_ + plan.changed);
    std::uint64_t to = 0;
    if (!function_.jumps->lead_to<X86_64Code>(begin, end, entry, body_.size, to)) return true;
    return refuse(plan, Refusal::jumped_into, static_cast<std::uint32_t>(to - entry));
  }

  const Function &function_;
  const Bytes &body_;
  std::uint32_t site_ = 0;
};

}  // namespace

bool X86_64Code::ready() { return load_decoder(); }
bool X86_64Code::is_ready() { return is_decoder_loaded(); }

std::size_t X86_64Code::size_of_return(const Bytes &code) {
  Instruction instruction;
  std::size_t at = 0;
  while (decode_simple(code, at, instruction)) {
    at += instruction.length;
    if (instruction.kind == Kind::end) return at;
    if (instruction.kind != Kind::endbr) break;
  }
  return 0;
}

EntryPlan X86_64Code::plan(const Function &function) {
  if (!is_ready() && size_of_return(function.body) != function.body.size && !ready()) {
    EntryPlan plan;
    plan.refusal = Refusal::no_decoder;
    return plan;
  }
  return Planner(function).plan();
}

}  // namespace shunt::core::arch
