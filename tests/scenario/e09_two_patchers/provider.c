int answer(void) { return 1; }
int question(void) { return 2; }
