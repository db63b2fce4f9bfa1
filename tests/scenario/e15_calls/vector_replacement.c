#include "vectors.h"
void *original_add8;
__m256d doubled_add8(__m256d a, __m256d b, __m256d c, __m256d d, __m256d e, __m256d f, __m256d g, __m256d h) {
  return 2 * ((Add8 *)original_add8)(a, b, c, d, e, f, g, h);
}
