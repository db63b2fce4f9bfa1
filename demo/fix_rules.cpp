// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// fix-rules.so: the fix, a plain shared library. It exports one function, which replaces the one of that name; it knows
// nothing of shunt.
#include "rules.hpp"

int rules::damage(const Player &player, int roll) {
  const int blow = 2 * player.level + roll;
  return roll == 20 ? 2 * blow : blow;
}
