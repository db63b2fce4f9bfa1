/* life.h: tells the program when a patch comes and goes. */
extern int constructions, destructions;
__attribute__((constructor)) static void comes(void) { ++constructions; }
__attribute__((destructor)) static void goes(void) { ++destructions; }
