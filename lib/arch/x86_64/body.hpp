// body.hpp: where the body of a function leads that matters to a jump at its entry.
#pragma once

#include "arch/x86_64/decoder.hpp"

namespace shunt::core::arch::x86_64 {

/// Why the function's entry cannot change, and which instruction is the reason.
struct BodyFacts {
  Refusal refusal = Refusal::none;  // none: nothing leads back, and everything was understood
  std::uint32_t refused_at = 0;
};

/// Looks at the body and at the function's other parts. The bytes that change are [site, site + changed); a jump to [0, site + changed)
/// leads back, unless it is one of the `displaced` first bytes: those are never run where they are.
BodyFacts look_at_body(const Function &function, std::uint32_t displaced, std::uint32_t site, std::uint32_t changed);

}  // namespace shunt::core::arch::x86_64
