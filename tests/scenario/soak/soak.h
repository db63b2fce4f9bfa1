/* soak.h: what libsoak_provider.so offers, and everybody calls. A function answers 100 times its version (0: the provider's own) and its
 * number; what a patch or a redirect puts there is another version. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

enum { kFunctions = 6, kThrower = 3, kChained = 4, kHidden = 5 };

int soak_0(int x);
int soak_1(int x); /* the provider calls it as well: soak_call_1() */
int soak_2(int x);
int soak_3(int x); /* throws its answer, as an int, where x is negative */
int soak_4(int x); /* the patch that replaces it adds 100 times its version to what the original answers */
int soak_call_1(int x);
int soak_call_hidden(int x); /* static int soak_5(int) */

/* Of an object that calls them: all through its own slots. */
typedef struct soak_calls {
  int (*call)(int k, int x);
} soak_calls;

#ifdef __cplusplus
}
#endif
