/* Comes with the plugins. */
int which(void) { return 2; }
int other(void) { return 2; }
int only_here(void) { return 3; }
