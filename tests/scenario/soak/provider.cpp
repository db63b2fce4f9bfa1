#include "soak.h"

#if defined(__clang__)
#define AS_IT_IS __attribute__((noinline, optnone))
#else
#define AS_IT_IS __attribute__((noipa))
#endif

/// What the compiler cannot know of a caller.
static inline int opaque(int value) {
  __asm__ volatile("" : "+r"(value));
  return value;
}

extern "C" {
static int soak_5(int) __asm__("soak_5");  // not mangled, as in C
AS_IT_IS int soak_0(int) { return opaque(0); }
AS_IT_IS int soak_1(int) { return opaque(1); }
AS_IT_IS int soak_2(int) { return opaque(2); }
AS_IT_IS int soak_3(int x) {
  if (x < 0) throw 3;
  return opaque(3);
}
AS_IT_IS int soak_4(int) { return opaque(4); }
AS_IT_IS static int soak_5(int) { return opaque(5); }
int soak_call_1(int x) { return soak_1(x) + 0; }
int soak_call_hidden(int x) { return soak_5(x) + 0; }
}
