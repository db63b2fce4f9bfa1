#include "game.h"

static AS_IT_IS int twin(int x) { return x + 1; }
int call_twin_a(int x) { return twin(x) + 0; }
