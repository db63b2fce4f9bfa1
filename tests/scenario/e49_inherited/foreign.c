/* foreign.c: a program of another architecture. */
#include <stdio.h>

int main(void) {
  puts("foreign");
  return 0;
}
