/* watch_objects.c: a thousand functions (with PROVIDER), or an object that holds a slot for each of them. */
#define TEN(to, name) to(name##0) to(name##1) to(name##2) to(name##3) to(name##4) to(name##5) to(name##6) to(name##7) to(name##8) to(name##9)
#define HUNDRED(to, name) TEN(to, name##0) TEN(to, name##1) TEN(to, name##2) TEN(to, name##3) TEN(to, name##4) \
  TEN(to, name##5) TEN(to, name##6) TEN(to, name##7) TEN(to, name##8) TEN(to, name##9)
#define THOUSAND(to) HUNDRED(to, w0) HUNDRED(to, w1) HUNDRED(to, w2) HUNDRED(to, w3) HUNDRED(to, w4) \
  HUNDRED(to, w5) HUNDRED(to, w6) HUNDRED(to, w7) HUNDRED(to, w8) HUNDRED(to, w9)

#ifdef PROVIDER
#define DEFINE(name) \
  int name(void) { return 1; }
THOUSAND(DEFINE)
#else
#define DECLARE(name) int name(void);
#define NAME(name) name,
THOUSAND(DECLARE)
int (*const watch_table[])(void) = {THOUSAND(NAME)};
#endif
