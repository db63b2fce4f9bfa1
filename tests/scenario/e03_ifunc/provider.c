#include "e03.h"

static int own(int x) { return x + 1; }
__attribute__((used)) static int (*resolve_own(void))(int) { return own; }

int e03_own(int x) __attribute__((ifunc("resolve_own")));
