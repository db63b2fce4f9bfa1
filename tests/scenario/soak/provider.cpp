#include "soak.h"

#if defined(__clang__)
#define AS_IT_IS __attribute__((noinline, optnone))
#else
#define AS_IT_IS __attribute__((noipa))
#endif

static int soak_5(int) __asm__("soak_5");  // not mangled, as in C

extern "C" {
AS_IT_IS int soak_0(int) { return 0; }
AS_IT_IS int soak_1(int) { return 1; }
AS_IT_IS int soak_2(int) { return 2; }
AS_IT_IS int soak_3(int x) {
  if (x < 0) throw 3;
  return 3;
}
AS_IT_IS int soak_4(int) { return 4; }
AS_IT_IS static int soak_5(int) { return 5; }
int soak_call_1(int x) { return soak_1(x) + 0; }
int soak_call_hidden(int x) { return soak_5(x) + 0; }
}
