/* A patch whose constructor says so and never returns. */
#define _GNU_SOURCE
#include <stdio.h>
#include <unistd.h>

__attribute__((constructor)) static void hang(void) {
  fputs("its constructor hangs\n", stderr);
  for (;;) pause();
}

int answer(void) { return 13; }
