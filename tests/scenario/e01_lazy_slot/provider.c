#include "e01.h"

int e01_applied(int x) { return x + 1; }
int e01_reverted(int x) { return x + 1; }
int e01_planned(int x) { return x + 1; }

static int held(int x) { return x + 1; }

void (*e01_resolver_runs)(void);

__attribute__((used)) static int (*resolve_held(void))(int) {
  if (e01_resolver_runs) e01_resolver_runs();
  return held;
}

int e01_held(int x) __attribute__((ifunc("resolve_held")));
int e01_held_below(int x) __attribute__((ifunc("resolve_held")));
int e01_twice(int x) __attribute__((ifunc("resolve_held")));
