/* The other file of the program: it has a static function of the same name. */
__attribute__((noinline)) static int twice(int x) { return x * 17 + 5; }
int twice_of_other(int x) { return twice(x); }
