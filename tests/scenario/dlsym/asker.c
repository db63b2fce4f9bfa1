/* An object that asks dlsym(): NAME_dlsym() and NAME_dlvsym() are calls of its own, never jumps. */
#define _GNU_SOURCE
#include <dlfcn.h>
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#if defined(__clang__)
#define AS_IT_IS __attribute__((noinline, optnone))
#else
#define AS_IT_IS __attribute__((noipa))
#endif
AS_IT_IS static void *kept(void *answer) { return answer; }
void *JOIN(NAME, _dlsym)(void *handle, const char *name) { return kept(dlsym(handle, name)); }
void *JOIN(NAME, _dlvsym)(void *handle, const char *name, const char *version) {
  return kept(dlvsym(handle, name, version));
}

#ifdef WRAPS /* as a library in LD_PRELOAD: in front of the one that it wraps */
int ds_wrapped(void) { return 10 + ((int (*)(void))dlsym(RTLD_NEXT, "ds_wrapped"))(); }
#endif
#ifdef CALLS
int ds_answer(void);
int call_ds_answer(void) { return ds_answer() + 0; }
#endif
#ifdef DEFINES /* what came with a plugin: some of it the program has, too */
int ds_both(void) { return 2; }
int ds_deep(void) { return 2; }
int ds_only_here(void) { return 2; }
int ds_next_here(void) { return 2; }
#endif
#ifdef BRINGS /* and so needs it */
void *brought_dlsym(void *, const char *);
void *JOIN(NAME, _brings)(void) { return (void *)&brought_dlsym; }
#endif
#ifdef DEFINES_NEXT
int ds_next_here(void) { return 3; }
#endif
#ifdef SHOWS /* a slot that shows where the dynamic linker looks first for this object */
int ds_both(void);
void *JOIN(NAME, _shows)(void) { return (void *)&ds_both; }
#endif
#ifdef GLOBAL
int ds_global(void) { return 4; }
#endif
#ifdef CONSTRUCTS
extern void *ds_seen;
__attribute__((constructor)) static void construct(void) { ds_seen = dlsym(RTLD_DEFAULT, "ds_answer"); }
#endif
#ifdef REPLACES /* a patch that looks up what it replaces */
int ds_answer(void) { return 100 + ((int (*)(void))dlsym(RTLD_DEFAULT, "ds_answer"))(); }
#endif
