/* Built twice: two functions of one name in one process. */
int twin(void) { return 1; }
