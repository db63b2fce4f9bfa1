/* A plugin whose constructor may wait, with the dynamic linker's lock held, as long as it likes. */
#include <stddef.h>
int e43_answer(void);
extern void (*e43_in_constructor)(void);
extern int e43_seen;
__attribute__((constructor)) static void construct(void) {
  if (e43_in_constructor != NULL) e43_in_constructor();
  e43_seen = e43_answer();
}
int e43_call(void) { return e43_answer() + 0; }
