int c_api_answer(void);
int c_api_second(void);
int call_answer(void) { return c_api_answer(); }
int call_second(void) { return c_api_second(); }
