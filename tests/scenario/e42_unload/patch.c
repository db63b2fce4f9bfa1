#include "functions.h"

#include <unistd.h>

/* Of the program: how often a patch was unloaded, and what it does then. */
extern int unloaded;
extern void (*at_unload)(void);
__attribute__((destructor)) static void count(void) {
  ++unloaded;
  if (at_unload) at_unload();
}

int quick(void) { return 2; }

int ask(int (*function)(void)) { return 20 + function(); }

int slow(int fd) {
  char byte;
  return read(fd, &byte, 1) == 1 ? 2 : -1;
}

/* The patch's own slot, which leads to the original. */
static int (*volatile const original)(int fd) = through;
int through(int fd) { return 10 + original(fd); }
