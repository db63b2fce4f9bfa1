// A function that asks whether it shall answer by itself, and else jumps on as if it had never been called: the other one sees the
// same registers, the same stack and so the same return address, by which dlsym() knows its caller. A compiler promises no such jump.
//
// `ask` is called with the first three arguments of the call and, as the fourth, the address that it returns to (System V ABI, AMD64
// supplement, 3.2.3). What it answers is the answer; 0: jump to what the word `target` holds.
#pragma once

#define SHUNT_X86_64_ASKING_JUMP(function, ask, target) \
  __asm__(                                              \
      ".pushsection .text, \"ax\", @progbits\n"         \
      ".p2align 4\n"                                    \
      ".globl " #function "\n"                          \
      ".hidden " #function "\n"                         \
      ".type " #function ", @function\n" #function      \
      ":\n"                                             \
      ".cfi_startproc\n"                                \
      "endbr64\n"                                       \
      "pushq %rdi\n"                                    \
      ".cfi_adjust_cfa_offset 8\n"                      \
      "pushq %rsi\n"                                    \
      ".cfi_adjust_cfa_offset 8\n"                      \
      "pushq %rdx\n"                                    \
      ".cfi_adjust_cfa_offset 8\n"                      \
      "movq 24(%rsp), %rcx\n"                           \
      "call " #ask                                      \
      "\n"                                              \
      "popq %rdx\n"                                     \
      ".cfi_adjust_cfa_offset -8\n"                     \
      "popq %rsi\n"                                     \
      ".cfi_adjust_cfa_offset -8\n"                     \
      "popq %rdi\n"                                     \
      ".cfi_adjust_cfa_offset -8\n"                     \
      "testq %rax, %rax\n"                              \
      "jz 1f\n"                                         \
      "ret\n"                                           \
      "1: jmp *" #target                                \
      "(%rip)\n"                                        \
      ".cfi_endproc\n"                                  \
      ".size " #function ", . - " #function             \
      "\n"                                              \
      ".popsection\n")
