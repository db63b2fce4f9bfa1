// Compiled once for each caller, with its NAME.
#include "target.hpp"

int doubled(int x);
template <class T>
T halved(T x);

#define JOIN(a, b) a##b
#define CALLS(name, function) JOIN(name, _calls_##function)

int CALLS(NAME, answer)() { return answer(); }
int CALLS(NAME, second)() { return second(); }
int CALLS(NAME, doubled)(int x) { return doubled(x); }
int CALLS(NAME, halved)(int x) { return halved(x); }
