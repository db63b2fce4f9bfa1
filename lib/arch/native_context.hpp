// native_context.hpp: the struct that reads and moves interrupted threads of the machine this library was built for.
#pragma once

#if defined(__x86_64__) && defined(__LP64__)
#include "arch/x86_64/context.hpp"
namespace shunt::core::arch {
using NativeContext = X86_64Context;
}  // namespace shunt::core::arch
#elif defined(__aarch64__) && defined(__LP64__)
#include "arch/aarch64/context.hpp"
namespace shunt::core::arch {
using NativeContext = Aarch64Context;
}  // namespace shunt::core::arch
#else
#error "shunt has no lib/arch/<isa> for this machine: see lib/arch/README.md"
#endif
