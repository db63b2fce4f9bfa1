// native.hpp: the machine that this library was built for. The only place that asks the compiler which one it is.
#pragma once

#if defined(__x86_64__) && defined(__LP64__)
#include "arch/x86_64/name_words.hpp"
#include "arch/x86_64/reloc.hpp"
namespace shunt::core::arch {
using Native = X86_64;
inline bool name_words(const char *text, std::uint64_t (&words)[4]) { return x86_64_name_words(text, words); }
}  // namespace shunt::core::arch
#elif defined(__aarch64__) && defined(__LP64__)
#include "arch/aarch64/reloc.hpp"
#include "arch/generic_name_words.hpp"
namespace shunt::core::arch {
using Native = Aarch64;
inline bool name_words(const char *text, std::uint64_t (&words)[4]) { return generic_name_words(text, words); }
}  // namespace shunt::core::arch
#else
#error "shunt has no lib/arch/<isa> for this machine: see lib/arch/README.md"
#endif
