/* libprovider: what the patches replace. */
int answer(void) { return 1; }
int second(void) { return 2; }
int also_second(void) __attribute__((alias("second")));
