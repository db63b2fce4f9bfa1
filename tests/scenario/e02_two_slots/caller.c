/* Three uses of one function, a slot each where the linker does not merge them: called, its address taken, in a table. */
int e02_function(int x);

int (*const table[])(int) = {e02_function};

int call(int x) { return e02_function(x); }
int (*address(void))(int) { return e02_function; }
