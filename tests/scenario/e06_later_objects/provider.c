// What is redirected, and a note of what constructors were answered.
int e06_answer(void) { return 1; }
int e06_other(void) { return 10; }
static int seen;
void e06_saw(int answer) { seen = seen * 10 + answer; }
int e06_take_seen(void) {
  int all = seen;
  seen = 0;
  return all;
}
