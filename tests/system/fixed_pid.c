/* A patch that knows nothing of shunt: the process calls itself 4711. */
#include <unistd.h>

pid_t getpid(void) { return 4711; }
