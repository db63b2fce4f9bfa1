#include "vectors.h"
Add8 add8;
__m256d add8(__m256d a, __m256d b, __m256d c, __m256d d, __m256d e, __m256d f, __m256d g, __m256d h) {
  return a + b + c + d + e + f + g + h;
}
