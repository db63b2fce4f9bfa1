#include "game.h"

int inner_from_caller(int x) { return inner(x); }
