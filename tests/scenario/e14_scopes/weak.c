int maybe(void) __attribute__((weak));
int call_maybe_weakly(void) { return maybe ? maybe() : -1; }
