#include "e16.h"

int e16_sum_of_data(void) { return e16_data + e16_copied + e16_unique + e16_untyped_data + e16_per_thread; }
int e16_call_untyped(int x) { return e16_untyped(x); }
int e16_call_sizeless(int x) { return e16_sizeless(x); }
