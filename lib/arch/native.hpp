// native.hpp: the machine that this library was built for. The only place that asks the compiler which one it is.
#pragma once

#if defined(__x86_64__) && defined(__LP64__)
#include "arch/x86_64/name_fold.hpp"
#include "arch/x86_64/reloc.hpp"
namespace shunt::core::arch {
using Native = X86_64;
inline bool name_fold(const char *text, std::uint64_t (&folded)[2]) { return x86_64_name_fold(text, folded); }
}  // namespace shunt::core::arch
#elif defined(__aarch64__) && defined(__LP64__)
#include "arch/aarch64/reloc.hpp"
#include "arch/generic_name_fold.hpp"
namespace shunt::core::arch {
using Native = Aarch64;
inline bool name_fold(const char *text, std::uint64_t (&folded)[2]) { return generic_name_fold(text, folded); }
}  // namespace shunt::core::arch
#else
#error "shunt has no lib/arch/<isa> for this machine: see lib/arch/README.md"
#endif
