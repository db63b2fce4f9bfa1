/* A caller with one slot, and data that lies near it. */
int f000(void);
volatile long counter = 1;
int call(void) { return f000(); }
void count(void) { ++counter; }
