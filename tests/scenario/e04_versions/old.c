/* As if linked when there was only V1. */
__asm__(".symver e04_function, e04_function@V1");
int e04_function(void);

int call(void) { return e04_function(); }
