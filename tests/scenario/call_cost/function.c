/* Compiled once for each NAME, so that all have the same instructions: x + 1, in more bytes than a jump has. */
int NAME(int x) { return ((x ^ 0x1000000) + 1) ^ 0x1000000; }
