/* patch.c: a plain patch. It replaces a static function of the library and one that goes on to its original. */
int hidden(int x) { return 1000 + x; }

int inner(int x);
static int (*volatile const original)(int) = inner;
int inner(int x) { return 2000 + original(x); }
