/* One library of many kinds: NAME is the kind. */
int answer(void);
void enlist(int (*function)(void));
#define PASTE(a, b) a##b
#define FUNCTION(prefix, name) PASTE(prefix, name)
static int data;
__attribute__((used)) static int *relative[] = {&data, &data, &data}; /* relocations without a symbol */
int FUNCTION(provided_by_, NAME)(void) { return 5; }
static int call(void) { return answer(); }
__attribute__((constructor)) static void begin(void) { enlist(call); }
