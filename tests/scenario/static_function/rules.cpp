// The demo's rules, inside the server itself: the bug is in a static function, which no slot leads to.
#include "../../../demo/rules.hpp"

#include <algorithm>

namespace rules {

/// Not inlined: where a compiler does that, nobody can redirect the calls, and `shunt check` says so.
[[gnu::noinline]] static int critical(int blow) { return -2 * blow; }  // the bug: it heals the dragon

int damage(const Player &player, int roll) {
  const int blow = 2 * player.level + roll;
  return roll == 20 ? critical(blow) : blow;
}

void settle(Player &player, int roll, int damage) {
  player.xp += std::max(damage, 0);
  player.gold += roll;
  player.level = 1 + static_cast<int>(std::min(player.xp / 1000, 49L));
  player.hp = player.hp > 1 ? player.hp - 1 : 100;
}

}  // namespace rules
