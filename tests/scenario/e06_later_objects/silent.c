// No initialization at all.
int e06_answer(void);
int e06_call(void) { return e06_answer(); }
