#include "game.h"

static AS_IT_IS void check(int x) {
  if (x < 0) throw x;
}

extern "C" AS_IT_IS int throws(int x) {
  check(x);  // a call among the first instructions: an exception goes through the trampoline
  return x;
}
extern "C" int call_throws(int x) { return throws(x) + 0; }
