int e04_function(void);

int call(void) { return e04_function(); }
