/* A library for LD_PRELOAD, of somebody else: it comes before the function that it wraps. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

int answer(void) {
  int (*next)(void) = NULL;
  *(void **)&next = dlsym(RTLD_NEXT, "answer");
  return next() + ADDS;
}
