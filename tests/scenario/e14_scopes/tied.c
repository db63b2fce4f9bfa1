/* Libraries whose calls to their own functions are bound by the linker. */
#ifdef PROTECTED
#define NAME(prefix) prefix##protected_one
__attribute__((visibility("protected")))
#else
#define NAME(prefix) prefix##symbolic_one
#endif
int NAME()(void) { return 1; }
int NAME(call_)(void) { return NAME()(); }
