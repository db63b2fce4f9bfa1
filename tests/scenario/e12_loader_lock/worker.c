#include <stdlib.h>
#include <string.h>
/* Work that allocates, as a server's threads do. */
int work(void) {
  char *text = malloc(100);
  memset(text, 'x', 100);
  const int answer = text[99];
  free(text);
  return answer;
}
int answer(void) { return 1; }
