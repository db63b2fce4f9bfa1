// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// rules.hpp: the rules of the game, as librules.so has them. Players roll a die of twenty against a dragon; a 20 is a
// critical hit, which deals twice the damage.
#pragma once

#define RULES_API __attribute__((visibility("default")))

namespace rules {

struct Player {
  int level = 1;
  int hp = 100;
  long xp = 0;
  long gold = 0;
  bool operator==(const Player &) const = default;
};

/// The damage that a blow of `player` deals when the die shows `roll`, 1 to 20.
RULES_API int damage(const Player &player, int roll);

/// What the player has after that blow: experience, gold, perhaps a level; and the dragon strikes back.
RULES_API void settle(Player &player, int roll, int damage);

}  // namespace rules
