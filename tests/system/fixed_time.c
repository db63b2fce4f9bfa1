/* A patch that knows nothing of shunt: the time of day stands still at 2001-09-09 01:46:40 UTC. */
#include <sys/time.h>

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  now->tv_sec = 1000000000;
  now->tv_usec = 0;
  return 0;
}
