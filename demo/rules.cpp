// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "rules.hpp"

#include <algorithm>

namespace rules {

int damage(const Player &player, int roll) {
  const int blow = 2 * player.level + roll;
  return roll == 20 ? -2 * blow : blow;  // the bug: a critical hit heals the dragon
}

void settle(Player &player, int roll, int damage) {
  player.xp += std::max(damage, 0);
  player.gold += roll;
  player.level = 1 + static_cast<int>(std::min(player.xp / 1000, 49L));
  player.hp = player.hp > 1 ? player.hp - 1 : 100;  // worn down, a player rests
}

}  // namespace rules
