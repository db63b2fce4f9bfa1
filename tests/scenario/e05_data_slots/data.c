int e05_first(int x);
int e05_second(int x);
int e05_unaligned(int x);

extern const char *const beyond_by_4 __attribute__((visibility("hidden")));

static int (*const volatile table[2])(int) = {e05_first, e05_second};

static struct __attribute__((packed)) {
  char tag;
  int (*first)(int);
  int (*unaligned)(int);
} packed = {'p', e05_first, e05_unaligned};

const void *e05_table(void) { return (const void *)table; }
const void *e05_beyond_by_4(void) { return &beyond_by_4; }
int (*e05_packed_first(void))(int) { return packed.first; }
int (*e05_packed_unaligned(void))(int) { return packed.unaligned; }
const void *e05_packed_place(void) { return (const char *)&packed + 1; }
