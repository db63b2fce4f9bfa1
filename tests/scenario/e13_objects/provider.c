int answer(void) { return 1; }

/* Libraries without a hash table cannot be asked for a symbol: each tells the address of its function when it is loaded. */
int (*enlisted)(void);
void enlist(int (*function)(void)) { enlisted = function; }
