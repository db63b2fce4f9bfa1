// calls.hpp: calls of all functions, through the slots of the object that this is compiled into.
#pragma once

#include "soak.h"

inline int soak_call(int k, int x) {
  switch (k) {
    case 0:
      return soak_0(x);
    case 1:
      return soak_1(x);
    case 2:
      return soak_2(x);
    case 3:
      return soak_3(x);
    case 4:
      return soak_4(x);
    default:
      return soak_call_hidden(x);
  }
}
