/* A caller whose slots fill several pages. */
#include "functions.h"
#define DECLARE(name) int f##name(void);
FUNCTIONS(DECLARE)
#define ADD(name) +f##name()
int sum_of_all(void) { return 0 FUNCTIONS(ADD); }
