// A patch with strong functions, weak ones, and one that nobody calls.
extern "C" {
#include "life.h"
int answer() { return 11; }
int second() { return 22; }
int nobody_calls_this() { return 33; }
}

[[gnu::used]] inline int doubled(int x) { return 200 * x; }

template <class T>
T halved(T x) {
  return x * 50;
}
template int halved<int>(int);
