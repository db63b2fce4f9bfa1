// A library that comes and goes. Its constructor calls one of the functions already.
#include <utility>

#include "calls.hpp"

namespace {

int at_start[kFunctions];
__attribute__((constructor)) void call_all() {
  for (int k = 0; k < kFunctions; ++k) at_start[k] = soak_call(k, 1);
}

/// x 0: what the constructor got, once. (Shunt keeps a library from being unloaded for a moment: then it does not run again.)
int call(int k, int x) { return x == 0 ? std::exchange(at_start[k], -1) : soak_call(k, x); }

}  // namespace

extern "C" const soak_calls plugin_calls = {&call};
