/* plugin.c: loaded and unloaded by the test. */
#include "game.h"

static AS_IT_IS int in_plugin(int x) { return x; }
int call_in_plugin(int x) { return in_plugin(x) + 0; }
