/* One of several callers: NAME is the number of this one. */
int answer(void);
#define PASTE(a, b) a##b
#define FUNCTION(prefix, name) PASTE(prefix, name)
int FUNCTION(call_, NAME)(void) { return answer(); }
