#include "hammer.h"

static int call_0(int x) { return hammer_f0(x); }
static int call_1(int x) { return hammer_f1(x); }
static int call_2(int x) { return hammer_f2(x); }
static int call_3(int x) { return hammer_f3(x); }

const struct hammer_calls CALLER = {{call_0, call_1, call_2, call_3}};
