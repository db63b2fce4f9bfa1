/* What is redirected, in an object that may go. */
__attribute__((noipa)) int un_answer(void) { return 1; }
__attribute__((noipa)) int un_inside(void) { return un_answer() + 0; }
