// A function that asks whether it shall answer by itself, and else jumps on as if it had never been called: as x86_64/asking_jump.hpp
// says it. Arguments are in x0 to x2, the address that it returns to is in x30 (AAPCS64, 6.4 and 5.1.1).
#pragma once

#define SHUNT_AARCH64_ASKING_JUMP(function, ask, target) \
  __asm__(                                               \
      ".pushsection .text, \"ax\", %progbits\n"          \
      ".p2align 4\n"                                     \
      ".globl " #function "\n"                           \
      ".hidden " #function "\n"                          \
      ".type " #function ", %function\n" #function       \
      ":\n"                                              \
      ".cfi_startproc\n"                                 \
      "hint #34\n" /* bti c */                           \
      "stp x29, x30, [sp, #-48]!\n"                      \
      ".cfi_def_cfa_offset 48\n"                         \
      ".cfi_offset 29, -48\n"                            \
      ".cfi_offset 30, -40\n"                            \
      "mov x29, sp\n"                                    \
      "stp x0, x1, [sp, #16]\n"                          \
      "str x2, [sp, #32]\n"                              \
      "mov x3, x30\n"                                    \
      "bl " #ask                                         \
      "\n"                                               \
      "mov x16, x0\n"                                    \
      "ldp x0, x1, [sp, #16]\n"                          \
      "ldr x2, [sp, #32]\n"                              \
      "ldp x29, x30, [sp], #48\n"                        \
      ".cfi_restore 30\n"                                \
      ".cfi_restore 29\n"                                \
      ".cfi_def_cfa_offset 0\n"                          \
      "cbz x16, 1f\n"                                    \
      "mov x0, x16\n"                                    \
      "ret\n"                                            \
      "1: adrp x16, " #target                            \
      "\n"                                               \
      "ldr x16, [x16, :lo12:" #target                    \
      "]\n"                                              \
      "br x16\n"                                         \
      ".cfi_endproc\n"                                   \
      ".size " #function ", . - " #function              \
      "\n"                                               \
      ".popsection\n")
