// A static of an inline function is a unique symbol, which the dynamic linker never lets go.
#include "functions.h"

#if defined(__clang__)
// It makes none by itself.
__asm__(
    ".pushsection .bss\n"
    ".globl unique_count\n"
    ".type unique_count, @gnu_unique_object\n"
    ".size unique_count, 4\n"
    ".balign 4\n"
    "unique_count: .zero 4\n"
    ".popsection\n");
extern "C" int unique_count;
static int &counter() { return unique_count; }
#else
inline int &counter() {
  static int count = 0;
  return count;
}
#endif
__attribute__((visibility("default"))) int *counted() { return &counter(); }

extern "C" int quick() {
  ++counter();
  return 2;
}
