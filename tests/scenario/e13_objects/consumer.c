#define PASTE(a, b) a##b
#define FUNCTION(prefix, name) PASTE(prefix, name)
int FUNCTION(provided_by_, NAME)(void);
int consume(void) { return FUNCTION(provided_by_, NAME)(); }
#ifdef USES_THE_NEXT /* so that the linker keeps it among the libraries that are needed */
int of_the_next(void);
int use_the_next(void) { return of_the_next(); }
#endif
