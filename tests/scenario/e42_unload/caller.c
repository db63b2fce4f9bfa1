#include "functions.h"

#include <unistd.h>

int call_quick(void) { return quick(); }
int call_ask(int (*function)(void)) { return ask(function); }
int call_slow(int fd) { return slow(fd); }
int call_through(int fd) { return through(fd); }

int call_quick_for_each_x(int fd) {
  int (*function)(void) = &quick;
  __asm__("" : "+r"(function)); /* from here on the compiler has nothing but the value */
  char byte;
  int sum = 0;
  while (read(fd, &byte, 1) == 1 && byte == 'x') sum += function();
  return sum;
}
