// A thread-local variable that is destroyed when its thread ends.
#include "functions.h"

struct Destroyed {
  int value = 2;
  ~Destroyed() { value = 0; }
};
thread_local Destroyed destroyed;

extern "C" int quick() { return destroyed.value; }
