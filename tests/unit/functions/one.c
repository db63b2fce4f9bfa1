/* Functions of every kind that has a name of its own, and a static one that two.c has too. */
#include <stdio.h>

__attribute__((noinline)) static int hidden(int a) { return a * 3 + 1; }
__attribute__((noinline)) static int only_here(int a) { return a * 5 + hidden(a); }
__attribute__((visibility("hidden"), noinline)) int inner(int a) { return a * 7 + 2; }
int exported(int a) { return only_here(a) + inner(a) + hidden(a + 1); }
#ifdef VERSIONED
int old_exported(int a) { return a + 41; }
__asm__(".symver old_exported, exported@V1");
#endif
int alias(int a) __attribute__((alias("exported")));

/* The compiler puts what is never expected into a part that lies elsewhere: unlikely.cold. */
__attribute__((cold, noinline)) static void complain(const char *what) { fputs(what, stderr); }
__attribute__((noinline)) static int unlikely(int a) {
  if (__builtin_expect(a == 12345, 0)) {
    complain("one");
    complain("two");
    return 1;
  }
  return a * 11;
}
int call_one(int a) { return unlikely(a) + hidden(a); }

/* With one and the same argument everywhere, the compiler makes a copy without it: scale.constprop.0. */
__attribute__((noinline)) static int scale(int a, int by) {
  for (int k = 0; k < by; ++k) a = a * a + k;
  return a;
}
int scaled(int a) { return scale(a, 13) + scale(a + 1, 13); }

/* An IFUNC, and a label without type in the middle of a function, and behind one. */
static int chosen_one(int a) { return a + 100; }
static int (*choose(void))(int) { return chosen_one; }
int chosen(int a) __attribute__((ifunc("choose")));
__asm__(
    ".text\n.p2align 4\n.globl assembled\n.type assembled, %function\n"
    "assembled:\n nop\ninside_it:\n nop\n ret\n.size assembled, .-assembled\n"
    "nop\nnop\nnop\nnop\nbehind_it:\n nop\n ret\n"
    ".p2align 4\n.globl without_size\n.type without_size, %function\n"
    "without_size:\n.cfi_startproc\n nop\n nop\n ret\n.cfi_endproc\n");
