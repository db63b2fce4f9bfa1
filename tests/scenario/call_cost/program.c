/* program.c plain|redirected|longer|entry: calls function() 1000 times in each way, the slots bound before; function() is that of
 * the library, or redirected to another with the same instructions, or to one with an instruction more, or at its entry. */
#include <shunt/shunt.h>
#include <stdio.h>
#include <string.h>

int calls_lazy(int x);
int calls_now(int x);
int calls_noplt(int x);
int replacement(int x);
int longer(int x);
int near_replacement(int x); /* of a library: a jump from one library reaches another, but not the program */

static int redirect(int (*to)(int), shunt_reach reach) {
  shunt_options options = SHUNT_OPTIONS_INIT;
  options.reach = reach;
  void *pointer;
  memcpy(&pointer, &to, sizeof pointer);
  shunt_change *change = NULL;
  shunt_error *error = NULL;
  const shunt_code code = shunt_redirect("function", pointer, &options, &change, &error);
  if (code != SHUNT_OK) fprintf(stderr, "%s\n", shunt_error_message(error));
  return code == SHUNT_OK && shunt_change_slots(change) == (reach == SHUNT_REACH_SLOTS ? 3 : 0);
}

static int warm_up(void) { return calls_lazy(0) + calls_now(0) + calls_noplt(0); }

/* What is counted: callgrind collects while this runs. Called by a pointer, so that no compiler makes another of it. */
int measured(int x) { return calls_noplt(calls_now(calls_lazy(x))); }
static int (*volatile const measure)(int) = measured;

int main(int count, char **arguments) {
  const char *how = count == 2 ? arguments[1] : "";
  if (warm_up() != 3000) return 1;
  if (strcmp(how, "redirected") == 0 && !redirect(replacement, SHUNT_REACH_SLOTS)) return 1;
  if (strcmp(how, "longer") == 0 && !redirect(longer, SHUNT_REACH_SLOTS)) return 1;
  if (strcmp(how, "entry") == 0 && !redirect(near_replacement, SHUNT_REACH_ENTRY)) return 1;
  return measure(0) == 3000 ? 0 : 1;
}
