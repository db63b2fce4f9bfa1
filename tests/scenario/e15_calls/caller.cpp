// Calls to plain() and format() out of frames that have something to clean up.
#include <cstddef>

extern "C" {
int plain(int x);
int format(char *out, std::size_t size, const char *text, ...);

struct Guard {
  int &destroyed;
  ~Guard() { ++destroyed; }
};
int call_guarded(int x, int *destroyed) {
  const Guard guard{*destroyed};
  return plain(x);
}
int call_and_catch(int x, int *destroyed) {
  try {
    return call_guarded(x, destroyed);
  } catch (int thrown) {
    return -thrown;
  }
}
int call_plain(int x) { return plain(x) + 1; }
// More arguments than there are registers of either kind.
int call_format(char *out, std::size_t size) {
  return format(out, size, "%d %g %d %g %d %g %d %g %d %g %d %g %d %g %d %g %g %g", 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5,
                5.5, 6, 6.5, 7, 7.5, 8, 8.5, 9.5, 10.5);
}
}
