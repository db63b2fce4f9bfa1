// A patch of version VERSION: the functions whose bit is in FUNCTIONS.
#include "soak.h"

#define HAS(k) ((FUNCTIONS >> (k)) & 1)

extern "C" {
#if HAS(0)
int soak_0(int) { return VERSION * 100; }
#endif
#if HAS(1)
int soak_1(int) { return VERSION * 100 + 1; }
#endif
#if HAS(2)
int soak_2(int) { return VERSION * 100 + 2; }
#endif
#if HAS(3)
int soak_3(int x) {
  if (x < 0) throw VERSION * 100 + 3;
  return VERSION * 100 + 3;
}
#endif
#if HAS(4)
static int (*volatile const original)(int) = soak_4;
int soak_4(int x) { return VERSION * 100 + original(x); }
#endif
#if HAS(5)
int soak_5(int) { return VERSION * 100 + 5; }
#endif
}
