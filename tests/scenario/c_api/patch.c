int c_api_answer(void) { return 11; }
int patch_variable = 5;
