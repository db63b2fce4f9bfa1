/* Functions that the caller library binds lazily, one for each test: binding happens once. */
#ifdef __cplusplus
extern "C" {
#endif

int e01_applied(int x); /* x + 1, as all of them */
int e01_reverted(int x);
int e01_planned(int x);
int e01_held(int x); /* an IFUNC, and the next */
int e01_held_below(int x);
int e01_twice(int x);
extern void (*e01_resolver_runs)(void); /* called by their resolver, when set */

int e01_call_applied(int x);
int e01_call_reverted(int x);
int e01_call_planned(int x);
int e01_call_held(int x);
int e01_call_held_below(int x);
int e01_call_twice(int x);

#ifdef __cplusplus
}
#endif
