/* game.h: functions of libentries_game.so. It is linked with -Bsymbolic, so what it calls itself it calls directly. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

int aside(int x); /* nothing in the library calls it */
int inner(int x); /* call_inner() does; all of these answer x but for what they say */
int call_inner(int x);
int call_hidden(int x); /* static int hidden(int) */
int call_concealed(int x); /* of hidden visibility */
int call_unnoticed(int x); /* exported, and nobody outside calls it: static linking would do */
int taken(int x); /* call_taken() hands its address to what calls it */
int call_taken(int x);
int kept(int x); /* call_kept() finds it in a table */
int call_kept(int x);
int first_name(int x); /* the same code as second_name() */
int second_name(int x);
int call_first_name(int x);
int call_tiny(int x); /* of four bytes, and its neighbour begins right behind them */
int tiny(int x);
int two(int x);
int call_one(int x); /* one(), two() and three() answer 1, 2, 3 more than x */
int call_two(int x);
int call_three(int x);
int call_waits(int fd); /* waits() begins with a call of `reader`; here that answers a byte of the descriptor */
int waits(int fd, int (*reader)(int fd));
int call_throws(int x); /* throws(x): begins with a call that throws x when it is negative */
int throws(int x);

/* libentries_caller.so */
int inner_from_caller(int x);

/* in the program, but in C files of their own */
int call_static_one(int x); /* static int static_one(int) */
int call_twin_a(int x);     /* static int twin(int), which answers x + 1 */
int call_twin_b(int x);     /* another one, which answers x + 2 */

#ifdef __cplusplus
}
#endif

#if defined(__clang__)
#define AS_IT_IS __attribute__((noinline, optnone))
#else
#define AS_IT_IS __attribute__((noipa))
#endif
