/* program.c [PROGRAM ARGUMENT…]: says what answer() is, then becomes that program, which inherits the environment. */
#include <stdio.h>
#include <unistd.h>

int answer(void);

int main(int count, char **words) {
  printf("%d\n", answer());
  fflush(stdout);
  if (count < 2) return 0;
  execvp(words[1], words + 1);
  return 127;
}
