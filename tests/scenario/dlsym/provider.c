/* Comes with the program. What it defines some of the others define, too. */
int ds_answer(void) { return 1; }
int ds_other(void) { return 1; }
int ds_wrapped(void) { return 1; }
int ds_both(void) { return 1; }
int ds_deep(void) { return 1; }
int ds_plain(void) { return 1; }
int ds_variable = 1;

/* Two versions of one function; the second is the default. */
__asm__(".symver ds_versioned_1, ds_versioned@DS_1");
__asm__(".symver ds_versioned_2, ds_versioned@@DS_2");
int ds_versioned_1(void) { return 1; }
int ds_versioned_2(void) { return 2; }

/* The same function in two versions. */
__asm__(".symver ds_same_1, ds_same@DS_1");
__asm__(".symver ds_same_2, ds_same@@DS_2");
int ds_same_1(void) { return 1; }
extern __typeof__(ds_same_1) ds_same_2 __attribute__((alias("ds_same_1")));

static int chosen(void) { return 1; }
__attribute__((used)) static int (*choose(void))(void) { return chosen; }
int ds_chosen(void) __attribute__((ifunc("choose")));

/* What a constructor saw. */
void *ds_seen;
