/* A patch that writes its DIGIT behind what the original answers. A compiler may take a function that calls itself for a loop,
 * so it calls by a pointer; second() calls another function of the patch, by its name. */
#include "life.h"

int answer(void);
static int (*volatile const original_answer)(void) = answer;

int answer(void) { return original_answer() * 10 + DIGIT; }
int second(void) { return answer(); }
