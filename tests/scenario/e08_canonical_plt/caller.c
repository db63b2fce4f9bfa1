int e08_function(int x);

int e08_call(int x) { return e08_function(x); }
int (*e08_address(void))(int) { return e08_function; }
