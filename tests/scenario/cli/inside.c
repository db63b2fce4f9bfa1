/* A program whose functions are its own: no slot leads to any of them. */
int twice_of_other(int x);
int tiny(void);

__attribute__((noinline)) static int only_here(int x) { return x * 3 + 1; }
__attribute__((noinline)) static int twice(int x) { return x * 5 + 2; }

static inline int inlined(int x) { return x * 7 ^ 3; }
__attribute__((noinline)) static int first_site(int x) { return inlined(x) + 1; }
__attribute__((noinline)) static int second_site(int x) { return inlined(x + 1) - 1; }
/* So that it is there as a function as well. */
int (*volatile inlined_by_pointer)(int) = inlined;

__attribute__((noinline)) int real_name(int x) { return x * 9 + only_here(x); }
int other_name(int x) __attribute__((alias("real_name")));

/* What compilers make of functions, under the names that they give it. */
__attribute__((noinline)) static int copy_of_scaled(int x) __asm__("scaled.constprop.0");
static int copy_of_scaled(int x) { return x * 11 - 4; }
__attribute__((noinline)) static int split(int x) { return x * 13 + 8; }
__attribute__((noinline)) static int part_of_split(int x) __asm__("split.cold");
static int part_of_split(int x) { return x * 15 + 8; }

/* One instruction, and no padding behind it. */
__asm__(
    ".text\n.globl tiny\n.type tiny, %function\n"
    "tiny:\n ret\n.size tiny, .-tiny\n"
    ".type behind, %function\nbehind:\n ret\n.size behind, .-behind\n");

int main(int count, char **arguments) {
  (void)arguments;
  int sum = only_here(count) + twice(count) + twice_of_other(count) + first_site(count) + second_site(count);
  sum += inlined_by_pointer(count) + other_name(count) + copy_of_scaled(count) + split(count) + part_of_split(count);
  return sum == 4711 ? tiny() : 0;
}
