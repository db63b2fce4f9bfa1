/* Compiled once for each patch: FUNCTION answers VALUE. */
int FUNCTION(void) { return VALUE; }
