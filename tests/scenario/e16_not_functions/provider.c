#include "e16.h"

int e16_data = 1;
int e16_copied = 2;
__thread int e16_per_thread = 5;
