void (*e43_in_constructor)(void);
int e43_seen;
__attribute__((noipa)) int e43_answer(void) { return 1; }
