// A system call on aarch64 (Linux: number in x8, arguments in x0 to x5): what the kernel answers, -errno on failure.
#pragma once

namespace shunt::core::arch {

struct Aarch64SystemCall {
  static long call(long number, const long (&arguments)[6]) {
#if defined(__aarch64__) && defined(__LP64__)
    register long x8 asm("x8") = number;
    register long x0 asm("x0") = arguments[0];
    register long x1 asm("x1") = arguments[1];
    register long x2 asm("x2") = arguments[2];
    register long x3 asm("x3") = arguments[3];
    register long x4 asm("x4") = arguments[4];
    register long x5 asm("x5") = arguments[5];
    asm volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
#else
    static_cast<void>(number);
    static_cast<void>(arguments);
    return -1;
#endif
  }
};

}  // namespace shunt::core::arch
