/* Four functions, each x + 1, and the calls that one library makes to them. */
typedef int hammer_function(int x);

#ifdef __cplusplus
extern "C" {
#endif

hammer_function hammer_f0, hammer_f1, hammer_f2, hammer_f3;

enum { hammer_functions = 4 };
struct hammer_calls {
  hammer_function *call[hammer_functions];
};
/* Bound lazily; at start, with its slots read-only; the same without a PLT. */
extern const struct hammer_calls hammer_lazy, hammer_now, hammer_noplt;

#ifdef __cplusplus
}
#endif
