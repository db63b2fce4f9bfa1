/* Comes with the program. */
int which(void) { return 1; }
int other(void) { return 1; }
int chained(void) { return 1; }
