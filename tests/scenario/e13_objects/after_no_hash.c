/* The dynamic linker does not find the function of this name in a library without a hash table; it finds this one. */
int provided_by_no_hash_file(void) { return 6; }
int of_the_next(void) { return 7; }
