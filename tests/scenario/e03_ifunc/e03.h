#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

int e03_own(int x); /* x + 1 */

/* The same calls, from an object that is bound lazily and from one that is bound at start. */
struct e03_calls {
  void *(*copy)(void *to, const void *from, size_t size);
  size_t (*length)(const char *text);
  int (*own)(int x);
};
extern const struct e03_calls e03_lazy, e03_now;

#ifdef __cplusplus
}
#endif
