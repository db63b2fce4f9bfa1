// functions.h: the functions of libe42_provider.so, and how libe42_caller.so calls them.
#pragma once
#ifdef __cplusplus
extern "C" {
#endif

int quick(void);      // 1; the patch: 2
int slow(int fd);     // reads a byte first, then the same
int through(int fd);  // slow(fd); the patch: 10 + the original through(fd)

int ask(int (*function)(void)); /* what it answers; the patch: 20 + that */

int call_quick(void);
int call_ask(int (*function)(void));
int call_slow(int fd);
int call_through(int fd);
/* Takes the address of quick() once, as a compiler may do for a loop, and calls it for each x that it reads. The sum. */
int call_quick_for_each_x(int fd);

#ifdef __cplusplus
}
#endif
