#include "game.h"

static AS_IT_IS int twin(int x) { return x + 2; }
int call_twin_b(int x) { return twin(x) + 0; }
