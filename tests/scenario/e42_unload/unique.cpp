// A static of an inline function is a unique symbol, which the dynamic linker never lets go.
#include "functions.h"

inline int &counter() {
  static int count = 0;
  return count;
}
__attribute__((visibility("default"))) int *counted() { return &counter(); }

extern "C" int quick() {
  ++counter();
  return 2;
}
