#include "e01.h"

int e01_call_applied(int x) { return e01_applied(x); }
int e01_call_reverted(int x) { return e01_reverted(x); }
int e01_call_planned(int x) { return e01_planned(x); }
int e01_call_held(int x) { return e01_held(x); }
int e01_call_held_below(int x) { return e01_held_below(x); }
int e01_call_twice(int x) { return e01_twice(x); }
