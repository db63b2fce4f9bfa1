void (*e43_in_constructor)(void);
int e43_seen;
#if defined(__clang__)
#define AS_IT_IS __attribute__((noinline, optnone))
#else
#define AS_IT_IS __attribute__((noipa))
#endif
AS_IT_IS int e43_answer(void) { return 1; }
