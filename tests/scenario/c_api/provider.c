int c_api_answer(void) { return 1; }
int c_api_second(void) { return 2; }
