/* What is redirected, and who calls it. */
__attribute__((noipa)) int e40_answer(void) { return 1; }
__attribute__((noipa)) int e40_other(void) { return 1; }
