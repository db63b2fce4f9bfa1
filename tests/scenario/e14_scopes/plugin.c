int which(void);
int other(void);
int only_here(void);
int call_which(void) { return which(); }
int call_only_here(void) { return only_here(); }
#ifdef TAKES_AN_ADDRESS /* through a slot that is filled when the plugin is loaded */
void *address_of_other(void) { return (void *)&other; }
#endif
