/* Compiled once for each NAME, so that all have the same instructions. */
int NAME(int x) { return x + 1; }
