int twin(void);
int call_twin(void) { return twin(); }
