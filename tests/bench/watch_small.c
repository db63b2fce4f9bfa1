/* watch_small.c: a small library, as plug-ins are: a few imports, among them one that is redirected. */
#include <stdio.h>
#include <stdlib.h>

int w000(void);
int watch_small(const char *text) { return atoi(text) + puts(text) + w000(); }
