// Static functions of C++: the linker's names say that they are.
namespace rules {
struct Player {
  int level;
};
/// The compiler is to keep it as it is written: its address is taken.
[[gnu::noinline]] static int blow(const Player &player, int roll) { return player.level * roll + 1; }
int (*volatile any_blow)(const Player &, int) = blow;
[[gnu::noinline]] static int both(int x) { return x * 31; }
int strike(const Player &player, int roll) { return any_blow(player, roll) + both(player.level); }
}  // namespace rules
[[gnu::noinline]] static int hidden(int x) { return x * 37; }
int shown(int x) { return hidden(x); }
int both(int x) { return x * 41; }
/// What rules::both() of another file would be called, which is not static.
int of_another_file(int x) __asm__("_ZN5rules4bothEi");
int of_another_file(int x) { return x * 43; }
