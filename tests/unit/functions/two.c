/* The same names as in one.c, with other code. */
#include <stdio.h>

__attribute__((noinline)) static int hidden(int a) { return a * 13 - 1; }

__attribute__((cold, noinline)) static void complain(const char *what) { fputs(what, stderr); }
__attribute__((noinline)) static int unlikely(int a) {
  if (__builtin_expect(a == 54321, 0)) {
    complain("three");
    complain("four");
    return 1;
  }
  return a * 17 + 4;
}
int call_two(int a) { return unlikely(a) + hidden(a); }

/* The same code twice: a linker that folds it leaves one function with two names. */
__attribute__((noinline)) static int fold_a(int a) { return (a ^ 21) * 1023; }
__attribute__((noinline)) static int fold_b(int a) { return (a ^ 21) * 1023; }
int folded_a(int a) { return fold_a(a) + 1; }
int folded_b(int a) { return fold_b(a) + 2; }
