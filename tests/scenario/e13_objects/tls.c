static __thread int local;
int *address_of_local(void) { return &local; }
