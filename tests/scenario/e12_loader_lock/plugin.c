/* Stops in the middle of its loading, when the resolver of its IFUNC is asked, and has a constructor, which shunt comes before. */
void e12_in_load(void);
void e12_constructed(int answer);
int answer(void);
static int chosen(void) { return 1; }
__attribute__((used)) static int (*choose(void))(void) {
  e12_in_load();
  return chosen;
}
static int choice(void) __attribute__((ifunc("choose")));
__attribute__((constructor)) static void construct(void) { e12_constructed(answer() * choice()); }
