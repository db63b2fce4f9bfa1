// A constructor that calls what may be redirected.
int e06_answer(void);
void e06_saw(int answer);
__attribute__((constructor)) static void construct(void) { e06_saw(e06_answer()); }
int e06_call(void) { return e06_answer(); }
