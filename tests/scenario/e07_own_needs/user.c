/* One call of each function that shunt itself needs. Each answers 1 when the call did what it should. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *volatile memory; /* so that the compiler keeps the calls */

int use_malloc(void) {
  memory = malloc(16);
  const int done = memory != NULL;
  free(memory);
  return done;
}
int use_free(void) { return use_malloc(); }
int use_calloc(void) {
  memory = calloc(4, 4);
  const int done = memory != NULL && *(int *)memory == 0;
  free(memory);
  return done;
}
int use_realloc(void) {
  memory = realloc(malloc(16), 32);
  const int done = memory != NULL;
  free(memory);
  return done;
}
int use_mmap(void) {
  memory = mmap(NULL, 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory != MAP_FAILED && munmap(memory, 1) == 0;
}
int use_mprotect(void) {
  memory = mmap(NULL, 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const int done = mprotect(memory, 1, PROT_READ | PROT_WRITE) == 0;
  return munmap(memory, 1) == 0 && done;
}
int use_pthread_mutex_lock(void) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  return pthread_mutex_lock(&mutex) == 0 && pthread_mutex_unlock(&mutex) == 0;
}
int use_dlsym(void) { return dlsym(RTLD_DEFAULT, "malloc") != NULL; }
static int see_one(struct dl_phdr_info *info, size_t size, void *seen) {
  (void)info, (void)size;
  return *(int *)seen = 1;
}
int use_dl_iterate_phdr(void) {
  int seen = 0;
  return dl_iterate_phdr(see_one, &seen) == 1 && seen == 1;
}
int use_syscall(void) { return syscall(SYS_getpid) == getpid(); }
