// A program that calls one of the two functions through a slot, and has a static one beside them.
namespace rules {
struct Player {
  int level;
};
int damage(const Player &player, int roll);
}  // namespace rules

[[gnu::noinline]] static int inner(int x) { return x * 3; }

int main(int count, char **) { return rules::damage({count}, inner(count)); }
