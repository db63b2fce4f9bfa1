/* What is redirected, in an object that may go. */
#if defined(__clang__)
#define AS_IT_IS __attribute__((noinline, optnone))
#else
#define AS_IT_IS __attribute__((noipa))
#endif
AS_IT_IS int un_answer(void) { return 1; }
AS_IT_IS int un_inside(void) { return un_answer() + 0; }
