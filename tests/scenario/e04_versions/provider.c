/* Two functions of one name: V1, hidden, for programs that were linked long ago, and V2, the default, for new ones. */
__asm__(".symver e04_function_1, e04_function@V1");
__asm__(".symver e04_function_2, e04_function@@V2");

int e04_function_1(void) { return 1; }
int e04_function_2(void) { return 2; }
