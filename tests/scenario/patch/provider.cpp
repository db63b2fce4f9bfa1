#include "target.hpp"

int answer() { return 1; }
int second() { return 2; }

int constructions = 0, destructions = 0;

int doubled(int x) { return 2 * x; }

template <class T>
T halved(T x) {
  return x / 2;
}
template int halved<int>(int);
