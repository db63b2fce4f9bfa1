// A module of the name service switch, which knows nobody. libc loads it by itself.
#include <errno.h>
#include <nss.h>
#include <pwd.h>

int e06_answer(void);
void e06_saw(int answer);
__attribute__((constructor)) static void construct(void) { e06_saw(e06_answer()); }

enum nss_status _nss_e06_getpwnam_r(const char *name, struct passwd *result, char *buffer, size_t size, int *error) {
  (void)name, (void)result, (void)buffer, (void)size;
  *error = ENOENT;
  return NSS_STATUS_NOTFOUND;
}
