int e40_answer(void);
int e40_other(void);
int e40_call_answer(void) { return e40_answer() + 0; }
int e40_call_other(void) { return e40_other() + 0; }
