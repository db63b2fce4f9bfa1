#include "game.h"

static AS_IT_IS int static_one(int x) { return x; }
int call_static_one(int x) { return static_one(x) + 0; }
