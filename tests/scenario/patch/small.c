/* So small that it can be cut at every byte. */
int answer(void) { return 11; }
