/* A patch that says so when any of its code runs. */
#include <unistd.h>

__attribute__((constructor)) static void say(void) {
  static const char text[] = "its constructor ran\n";
  if (write(2, text, sizeof text - 1) < 0) _exit(1);
}
int answer(void) { return 11; }
