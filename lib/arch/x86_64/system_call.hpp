// A system call on x86-64 (System V ABI, AMD64 supplement, A.2.1): what the kernel answers, -errno on failure.
#pragma once

namespace shunt::core::arch {

struct X86_64SystemCall {
  static long call(long number, const long (&arguments)[6]) {
#if defined(__x86_64__) && defined(__LP64__)
    register long r10 asm("r10") = arguments[3];
    register long r8 asm("r8") = arguments[4];
    register long r9 asm("r9") = arguments[5];
    long answer = number;
    asm volatile("syscall"
                 : "+a"(answer)
                 : "D"(arguments[0]), "S"(arguments[1]), "d"(arguments[2]), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    return answer;
#else
    static_cast<void>(number);
    static_cast<void>(arguments);
    return -1;
#endif
  }
};

}  // namespace shunt::core::arch
