// What base/syscalls.hpp leaves to the instruction set: a room below this one includes nothing of it, so it only declares this.
#include "base/syscalls.hpp"

#if defined(__x86_64__) && defined(__LP64__)
#include "arch/x86_64/system_call.hpp"
using NativeSystemCall = shunt::core::arch::X86_64SystemCall;
#elif defined(__aarch64__) && defined(__LP64__)
#include "arch/aarch64/system_call.hpp"
using NativeSystemCall = shunt::core::arch::Aarch64SystemCall;
#else
#error "shunt has no lib/arch/<isa> for this machine: see lib/arch/README.md"
#endif

namespace shunt::core::sys {

long raw_call(long number, const long (&arguments)[6]) { return NativeSystemCall::call(number, arguments); }

}  // namespace shunt::core::sys
