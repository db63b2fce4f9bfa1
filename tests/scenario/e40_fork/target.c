/* What is redirected, and who calls it. */
#if defined(__clang__)
#define AS_IT_IS __attribute__((noinline, optnone))
#else
#define AS_IT_IS __attribute__((noipa))
#endif
AS_IT_IS int e40_answer(void) { return 1; }
AS_IT_IS int e40_other(void) { return 1; }
