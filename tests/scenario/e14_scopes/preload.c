/* As a library in LD_PRELOAD: it comes before the one that it wraps. */
#define _GNU_SOURCE
#include <dlfcn.h>
static int next(void) { return ((int (*)(void))dlsym(RTLD_NEXT, "chained"))(); }
int chained(void) { return 10 + next(); }
int replacement_of_chained(void) { return 100 + next(); }
