int maybe(void);
int call_maybe(void) { return maybe(); }
