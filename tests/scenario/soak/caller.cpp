// A library that stays. NAME is what it exports.
#include "calls.hpp"

extern "C" const soak_calls NAME = {[](int k, int x) { return soak_call(k, x); }};
