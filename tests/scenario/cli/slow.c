/* answer() that takes until somebody opens the FIFO `gate` for writing. */
#include <fcntl.h>
#include <unistd.h>

int answer(void) {
  const int gate = open("gate", O_RDONLY | O_CLOEXEC);
  close(gate);
  return 33;
}
