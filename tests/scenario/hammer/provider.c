#include "hammer.h"

int hammer_f0(int x) { return x + 1; }
int hammer_f1(int x) { return x + 1; }
int hammer_f2(int x) { return x + 1; }
int hammer_f3(int x) { return x + 1; }
