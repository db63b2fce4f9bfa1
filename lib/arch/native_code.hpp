// native_code.hpp: the struct that plans and moves code of the machine this library was built for.
#pragma once

#if defined(__x86_64__) && defined(__LP64__)
#include "arch/x86_64/code.hpp"
namespace shunt::core::arch {
using NativeCode = X86_64Code;
}  // namespace shunt::core::arch
#elif defined(__aarch64__) && defined(__LP64__)
#include "arch/aarch64/code.hpp"
namespace shunt::core::arch {
using NativeCode = Aarch64Code;
}  // namespace shunt::core::arch
#else
#error "shunt has no lib/arch/<isa> for this machine: see lib/arch/README.md"
#endif
