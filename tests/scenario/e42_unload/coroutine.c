/* A coroutine. It is a library of its own since a program that calls swapcontext() has coroutines. */
#include <ucontext.h>

#include "functions.h"

static ucontext_t thread, coroutine;
static int answer;

static int go_back(void) {
  swapcontext(&coroutine, &thread);
  return 1;
}

static int sleep_there(void) {
  const int fd = answer;
  answer = call_slow(fd);
  return 1;
}

static int (*work)(void);
static void run(void) { answer = call_ask(work); }

static void start(int (*function)(void), char *stack, unsigned long size) {
  work = function;
  getcontext(&coroutine);
  coroutine.uc_stack.ss_sp = stack;
  coroutine.uc_stack.ss_size = size;
  coroutine.uc_link = &thread;
  makecontext(&coroutine, run, 0);
  swapcontext(&thread, &coroutine);
}

/* Returns when it is suspended inside ask(). */
void suspend_in_ask(char *stack, unsigned long size) { start(go_back, stack, size); }
int resume(void) {
  swapcontext(&thread, &coroutine);
  return answer;
}

/* Sleeps in read(fd) on the coroutine's stack, inside ask(). */
int sleep_in_ask(int fd, char *stack, unsigned long size) {
  answer = fd;
  start(sleep_there, stack, size);
  return answer;
}
