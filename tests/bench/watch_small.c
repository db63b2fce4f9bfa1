/* watch_small.c: a small library, as plug-ins are: a few imports. With CONCERNED one of them is redirected. */
#include <stdio.h>
#include <stdlib.h>

#ifdef CONCERNED
int w000(void);
#else
static int w000(void) { return 1; }
#endif
int watch_small(const char *text) { return atoi(text) + puts(text) + w000(); }
