#include "vectors.h"
Add8 add8;
/* Lane k of the answer is 8 * k + 28. */
void call_add8(double out[4]) {
  const __m256d a = _mm256_set_pd(3, 2, 1, 0);
  const __m256d one = _mm256_set1_pd(1);
  _mm256_storeu_pd(out, add8(a, a + one, a + 2 * one, a + 3 * one, a + 4 * one, a + 5 * one, a + 6 * one, a + 7 * one));
}
