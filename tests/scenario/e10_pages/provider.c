#include "functions.h"
#define DEFINE(name) int f##name(void) { return 0x##name; }
FUNCTIONS(DEFINE)
