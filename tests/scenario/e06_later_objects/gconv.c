// A module of iconv's, which copies bytes. libc loads it by itself.
#include <gconv.h>
#include <string.h>

int e06_answer(void);
void e06_saw(int answer);
__attribute__((constructor)) static void construct(void) { e06_saw(e06_answer()); }

int gconv_init(struct __gconv_step *step) {
  step->__min_needed_from = step->__max_needed_from = 1;
  step->__min_needed_to = step->__max_needed_to = 4;
  step->__stateful = 0;
  return __GCONV_OK;
}
int gconv(struct __gconv_step *step, struct __gconv_step_data *data, const unsigned char **in, const unsigned char *end,
          unsigned char **out, size_t *lost, int do_flush, int consume) {
  (void)step, (void)data, (void)out, (void)lost, (void)do_flush, (void)consume;
  *in = end;
  return __GCONV_EMPTY_INPUT;
}
