/* Eight vectors of four doubles: they travel in all of ymm0 to ymm7, and the answer in ymm0. */
#include <immintrin.h>
typedef __m256d Add8(__m256d a, __m256d b, __m256d c, __m256d d, __m256d e, __m256d f, __m256d g, __m256d h);
