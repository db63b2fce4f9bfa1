// C++ names: as a library that provides them, and compiled again as the patch.
namespace rules {
struct Player {
  int level;
};
int damage(const Player &player, int roll) { return player.level + roll; }
int damage(const Player &player) { return player.level; }
}  // namespace rules
