// A program that calls one of the two functions through a slot, and has a static one beside them.
namespace rules {
struct Player {
  int level;
};
int damage(const Player &player, int roll);
}  // namespace rules

[[gnu::noinline]] static int inner(int x) { return x * 3; }

/// Put into its caller; debug information has no linker's name for it.
static inline int inlined_too(int x) { return x * 5 ^ 9; }

int main(int count, char **) { return rules::damage({count}, inner(count) + inlined_too(count)); }
