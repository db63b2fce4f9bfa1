/* One function, FUNCTION, that returns VALUE; where NEEDS is given, it calls that one, which nobody may have. */
#ifdef NEEDS
int NEEDS(void);
#else
#define NEEDS()0
#endif
int FUNCTION(void) { return VALUE + NEEDS(); }
