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
/* What a plugin reports. */
void (*e12_when_loading)(void);
int e12_answer;
void e12_in_load(void) { e12_when_loading(); }
void e12_constructed(int answered) { e12_answer = answered; }
