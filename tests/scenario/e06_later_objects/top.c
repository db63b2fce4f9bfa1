// Its dependency has a constructor that calls what may be redirected, too.
int e06_answer(void);
int e06_call(void);
void e06_saw(int answer);
__attribute__((constructor)) static void construct(void) { e06_saw(e06_answer() + 1); }
int e06_top(void) { return e06_call() + e06_answer(); }
