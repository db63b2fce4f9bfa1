// native_asking_jump.hpp: SHUNT_ASKING_JUMP(function, ask, target), outside every function: defines one that asks before it jumps on,
// for the machine this library was built for.
#pragma once

#if defined(__x86_64__) && defined(__LP64__)
#include "arch/x86_64/asking_jump.hpp"
#define SHUNT_ASKING_JUMP SHUNT_X86_64_ASKING_JUMP
#elif defined(__aarch64__) && defined(__LP64__)
#include "arch/aarch64/asking_jump.hpp"
#define SHUNT_ASKING_JUMP SHUNT_AARCH64_ASKING_JUMP
#else
#error "shunt has no lib/arch/<isa> for this machine: see lib/arch/README.md"
#endif
