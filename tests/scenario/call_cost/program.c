/* program.c plain|redirected|longer: calls function() 1000 times in each way, the slots bound before; function() is that of the
 * library, or redirected to another with the same instructions, or to one with an instruction more. */
#include <shunt/shunt.h>
#include <stdio.h>
#include <string.h>

int calls_lazy(int x);
int calls_now(int x);
int calls_noplt(int x);
int replacement(int x);
int longer(int x);

static int redirect(int (*to)(int)) {
  void *pointer;
  memcpy(&pointer, &to, sizeof pointer);
  shunt_change *change = NULL;
  shunt_error *error = NULL;
  const shunt_code code = shunt_redirect("function", pointer, NULL, &change, &error);
  if (code != SHUNT_OK) fprintf(stderr, "%s\n", shunt_error_message(error));
  return code == SHUNT_OK && shunt_change_slots(change) == 3;
}

static int warm_up(void) { return calls_lazy(0) + calls_now(0) + calls_noplt(0); }

/* What is counted: callgrind collects while this runs. Called by a pointer, so that no compiler makes another of it. */
int measured(int x) { return calls_noplt(calls_now(calls_lazy(x))); }
static int (*volatile const measure)(int) = measured;

int main(int count, char **arguments) {
  const char *how = count == 2 ? arguments[1] : "";
  if (warm_up() != 3000) return 1;
  if (strcmp(how, "redirected") == 0 && !redirect(replacement)) return 1;
  if (strcmp(how, "longer") == 0 && !redirect(longer)) return 1;
  return measure(0) == 3000 ? 0 : 1;
}
