/* Needs the provider, and so keeps it. */
int un_answer(void);
int un_call(void) { return un_answer() + 0; }
