/* test.c PATCH: every function of shunt.h from C11: what it does, and what it answers to NULL, to a number that is out of range
 * and to options of another size.
 *
 * Shown to fail (each guard of lib/api/api.cpp taken out, the test seen to fail, the guard put back): `guarded` leaves *error as
 * it was; read_options() takes any size, or more than its own; add() without a look at the replacement or at the alignment of
 * the word for the original; any accessor without its look at NULL (a crash); shunt_patch_change() that answers after a revert. */
#define _POSIX_C_SOURCE 200809L /* fileno */
#include <shunt/shunt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int call_answer(void); /* 1, through a slot of libc_api_caller.so */
int call_second(void); /* 2 */

static int eleven(void) { return 11; }
static int twelve(void) { return 12; }

/* C11 has no cast from a function to void *. */
static void *address(int (*function)(void)) {
  void *pointer;
  memcpy(&pointer, &function, sizeof pointer);
  return pointer;
}

#define CHECK(condition)                                                      \
  do {                                                                        \
    if (!(condition)) {                                                       \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                                \
    }                                                                         \
  } while (0)

static shunt_error *const kUnset = (shunt_error *)&kUnset;

/* The call gives this code, sets the error, and says why in a sentence. */
#define CHECK_FAILS(expected, call)                       \
  do {                                                    \
    shunt_error *error = kUnset;                          \
    CHECK((call) == SHUNT_E_##expected);                  \
    CHECK(error != kUnset && error != NULL);              \
    CHECK(shunt_error_code(error) == SHUNT_E_##expected); \
    CHECK(strlen(shunt_error_message(error)) > 10);       \
    shunt_error_free(error);                              \
  } while (0)

#define CHECK_WORKS(call)                                                      \
  do {                                                                         \
    shunt_error *error = kUnset;                                               \
    const shunt_code code = (call);                                            \
    if (code != SHUNT_OK) fprintf(stderr, "%s\n", shunt_error_message(error)); \
    CHECK(code == SHUNT_OK);                                                   \
    CHECK(error == NULL);                                                      \
  } while (0)

static void codes_and_errors(void) {
  CHECK(strcmp(shunt_version(), SHUNT_VERSION_STRING) == 0);
  CHECK(strcmp(shunt_code_name(SHUNT_E_unknown_symbol), "unknown_symbol") == 0);
  CHECK(strcmp(shunt_code_text(SHUNT_E_unknown_symbol), "no loaded object imports or defines the symbol") == 0);
  CHECK(strcmp(shunt_code_name((shunt_code)9999), "unknown_code") == 0);
  CHECK(shunt_code_name(SHUNT_OK) != NULL && shunt_code_text(SHUNT_OK) != NULL);
  CHECK(shunt_code_text((shunt_code)9999) != NULL);

  CHECK(shunt_error_code(NULL) == SHUNT_OK);
  CHECK(strcmp(shunt_error_message(NULL), "") == 0);
  CHECK(strcmp(shunt_error_object(NULL), "") == 0);
  CHECK(strcmp(shunt_error_symbol(NULL), "") == 0);
  CHECK(shunt_error_address(NULL) == 0);
  CHECK(shunt_error_errno(NULL) == 0);
  shunt_error_free(NULL);

  shunt_change *change = NULL;
  shunt_error *error = NULL;
  CHECK(shunt_redirect("c_api_nobody", address(eleven), NULL, &change, &error) == SHUNT_E_unknown_symbol);
  CHECK(change == NULL);
  CHECK(strcmp(shunt_error_symbol(error), "c_api_nobody") == 0);
  CHECK(strcmp(shunt_error_object(error), "") == 0);
  CHECK(strstr(shunt_error_message(error), "c_api_nobody") != NULL);
  shunt_error_free(error);

  shunt_patch *patch = NULL;
  CHECK(shunt_patch_load("/nonexistent.so", NULL, &patch, &error) == SHUNT_E_patch_unreadable);
  CHECK(shunt_error_errno(error) == 2 /* ENOENT */);
  CHECK(strcmp(shunt_error_object(error), "/nonexistent.so") == 0);
  shunt_error_free(error);
}

/* An error is never asked for: NULL is as good. */
static void without_errors(void) {
  shunt_change *change = NULL;
  CHECK(shunt_redirect("c_api_answer", address(eleven), NULL, &change, NULL) == SHUNT_OK);
  shunt_change_free(change);
  CHECK(shunt_redirect("c_api_nobody", address(eleven), NULL, &change, NULL) == SHUNT_E_unknown_symbol);
  CHECK(change == NULL);
  CHECK(call_answer() == 11);
  CHECK(shunt_change_revert(NULL, NULL) == SHUNT_E_invalid_argument);
}

/* One redirect stands from without_errors(), for good: its handle is gone. Another goes over it, and comes off again. */
static void redirects(void) {
  void *original = NULL;
  shunt_options options = SHUNT_OPTIONS_INIT;
  const char *const callers[] = {"libc_api_caller.so", NULL};
  options.callers = callers;
  options.original = &original;
  shunt_change *change = NULL;
  CHECK_WORKS(shunt_redirect("c_api_answer", address(twelve), &options, &change, &error));
  CHECK(call_answer() == 12);
  CHECK(original == address(eleven));
  CHECK(shunt_original(change, 0) == address(eleven));
  CHECK(shunt_original(change, 1) == NULL);
  CHECK(shunt_change_is_applied(change) == 1);
  CHECK(shunt_change_slots(change) == 1);
  CHECK(shunt_change_conflicts(change) == 0);
  CHECK_WORKS(shunt_change_revert(change, &error));
  CHECK(call_answer() == 11);
  CHECK(shunt_change_is_applied(change) == 0);
  CHECK_FAILS(wrong_state, shunt_change_revert(change, &error));
  shunt_change_free(change);

  CHECK_FAILS(invalid_argument, shunt_redirect("c_api_answer", address(twelve), NULL, NULL, &error));
  CHECK_FAILS(invalid_argument, shunt_redirect(NULL, address(twelve), NULL, &change, &error));
  CHECK_FAILS(invalid_argument, shunt_redirect("", address(twelve), NULL, &change, &error));
  CHECK_FAILS(invalid_argument, shunt_redirect("c_api_answer", NULL, NULL, &change, &error));
  CHECK_FAILS(invalid_argument, shunt_change_revert(NULL, &error));
  shunt_change_free(NULL);
  CHECK(shunt_change_is_applied(NULL) == 0);
  CHECK(shunt_change_slots(NULL) == 0);
  CHECK(shunt_change_conflicts(NULL) == 0);
  CHECK(shunt_original(NULL, 0) == NULL);
  CHECK(call_answer() == 11);
}

static void transactions_and_plans(void) {
  shunt_transaction *transaction = NULL;
  shunt_plan *plan = NULL;
  shunt_change *change = NULL;
  CHECK_WORKS(shunt_transaction_new(&transaction, &error));
  CHECK_FAILS(invalid_argument, shunt_transaction_plan(transaction, &plan, &error)); /* it has no redirect */
  CHECK_FAILS(invalid_argument, shunt_transaction_apply(transaction, &change, &error));
  CHECK_WORKS(shunt_transaction_add(transaction, "c_api_answer", address(twelve), NULL, &error));
  CHECK_WORKS(shunt_transaction_add(transaction, "c_api_second", address(twelve), NULL, &error));
  CHECK_WORKS(shunt_transaction_plan(transaction, &plan, &error));
  CHECK(call_answer() == 11 && call_second() == 2);

  CHECK(shunt_plan_redirects(plan) == 2);
  CHECK(shunt_plan_slots(plan) == 2);
  CHECK(strcmp(shunt_plan_symbol(plan, 1), "c_api_second") == 0);
  CHECK(strstr(shunt_plan_provider(plan, 1), "libc_api_provider.so") != NULL);
  CHECK(shunt_plan_original(plan, 0) == address(eleven));
  CHECK(shunt_plan_symbol(plan, 2) == NULL);
  CHECK(shunt_plan_provider(plan, 2) == NULL);
  CHECK(shunt_plan_original(plan, 2) == NULL);
  CHECK(strstr(shunt_plan_coverage(plan), "c_api_second: 1 slot in 1 object") != NULL);
  bool seen[2] = {false, false};
  for (size_t k = 0; k < 2; ++k) {
    shunt_slot_info slot;
    CHECK(shunt_plan_slot(plan, k, &slot) == SHUNT_OK);
    CHECK(strstr(slot.caller, "libc_api_caller.so") != NULL);
    CHECK(strcmp(slot.kind, "jump_slot") == 0 || strcmp(slot.kind, "glob_dat") == 0);
    CHECK(slot.address % sizeof(void *) == 0 && slot.value != 0);
    seen[slot.redirect] = true;
  }
  CHECK(seen[0] && seen[1]);
  shunt_slot_info slot;
  CHECK(shunt_plan_slot(plan, 2, &slot) == SHUNT_E_invalid_argument);
  CHECK(shunt_plan_slot(plan, 0, NULL) == SHUNT_E_invalid_argument);
  CHECK(shunt_plan_slot(NULL, 0, &slot) == SHUNT_E_invalid_argument);

  shunt_transaction_free(transaction); /* the plan stays valid */
  CHECK_WORKS(shunt_plan_commit(plan, &change, &error));
  CHECK(call_answer() == 12 && call_second() == 12);
  CHECK(shunt_change_slots(change) == 2);
  CHECK_WORKS(shunt_change_revert(change, &error));
  shunt_change_free(change);
  CHECK_WORKS(shunt_plan_commit(plan, &change, &error)); /* and is not used up */
  CHECK_WORKS(shunt_change_revert(change, &error));
  shunt_change_free(change);
  CHECK(call_answer() == 11 && call_second() == 2);

  CHECK_FAILS(invalid_argument, shunt_plan_commit(plan, NULL, &error));
  CHECK_FAILS(invalid_argument, shunt_plan_commit(NULL, &change, &error));
  shunt_plan_free(plan);
  shunt_plan_free(NULL);
  CHECK(shunt_plan_redirects(NULL) == 0);
  CHECK(shunt_plan_slots(NULL) == 0);
  CHECK(shunt_plan_symbol(NULL, 0) == NULL);
  CHECK(shunt_plan_provider(NULL, 0) == NULL);
  CHECK(shunt_plan_original(NULL, 0) == NULL);
  CHECK(shunt_plan_coverage(NULL) != NULL);

  CHECK_WORKS(shunt_transaction_new(&transaction, &error));
  CHECK_WORKS(shunt_transaction_add(transaction, "c_api_second", address(twelve), NULL, &error));
  CHECK_WORKS(shunt_transaction_apply(transaction, &change, &error));
  CHECK(call_second() == 12);
  CHECK_WORKS(shunt_change_revert(change, &error));
  shunt_change_free(change);

  CHECK_FAILS(invalid_argument, shunt_transaction_new(NULL, &error));
  CHECK_FAILS(invalid_argument, shunt_transaction_add(NULL, "c_api_second", address(twelve), NULL, &error));
  CHECK_FAILS(invalid_argument, shunt_transaction_add(transaction, NULL, address(twelve), NULL, &error));
  CHECK_FAILS(invalid_argument, shunt_transaction_plan(NULL, &plan, &error));
  CHECK_FAILS(invalid_argument, shunt_transaction_plan(transaction, NULL, &error));
  CHECK_FAILS(invalid_argument, shunt_transaction_apply(NULL, &change, &error));
  CHECK_FAILS(invalid_argument, shunt_transaction_apply(transaction, NULL, &error));
  shunt_transaction_free(transaction);
  shunt_transaction_free(NULL);
}

static void options_of_other_sizes(void) {
  struct {
    shunt_options options;
    void *of_a_later_version;
  } later = {SHUNT_OPTIONS_INIT, NULL};
  shunt_change *change = NULL;
  const size_t bad_sizes[] = {0, 1, sizeof(size_t) - 1, sizeof(shunt_options) + 1, sizeof later, SIZE_MAX};
  for (size_t k = 0; k < sizeof bad_sizes / sizeof *bad_sizes; ++k) {
    later.options.size = bad_sizes[k];
    CHECK_FAILS(invalid_argument, shunt_redirect("c_api_second", address(twelve), &later.options, &change, &error));
  }
  /* Of an earlier version, which had no more than the callers: what lies behind is not looked at. */
  const char *const callers[] = {"libc_api_caller.so", NULL};
  shunt_options earlier = SHUNT_OPTIONS_INIT;
  earlier.size = offsetof(shunt_options, not_callers);
  earlier.callers = callers;
  earlier.version = "NO_SUCH_VERSION";
  CHECK_WORKS(shunt_redirect("c_api_second", address(twelve), &earlier, &change, &error));
  CHECK(call_second() == 12);
  CHECK_WORKS(shunt_change_revert(change, &error));
  shunt_change_free(change);

  shunt_options unaligned = SHUNT_OPTIONS_INIT;
  void *words[2] = {NULL, NULL};
  unaligned.original = (void **)(void *)((char *)words + 1);
  CHECK_FAILS(invalid_argument, shunt_redirect("c_api_second", address(twelve), &unaligned, &change, &error));

  shunt_patch_options patch_options = SHUNT_PATCH_OPTIONS_INIT;
  shunt_patch *patch = NULL;
  patch_options.size = sizeof patch_options + 1;
  CHECK_FAILS(invalid_argument, shunt_patch_load("/dev/null", &patch_options, &patch, &error));
  CHECK(call_second() == 2);
}

static void patches(const char *path) {
  shunt_patch *patch = NULL;
  shunt_plan *plan = NULL;
  CHECK_WORKS(shunt_patch_load(path, NULL, &patch, &error));
  CHECK(strcmp(shunt_patch_name(patch), path) == 0);
  CHECK(shunt_patch_change(patch) == NULL);
  CHECK(*(int *)shunt_patch_symbol(patch, "patch_variable") == 5);
  CHECK(shunt_patch_symbol(patch, "nothing") == NULL);
  CHECK_FAILS(wrong_state, shunt_patch_revert(patch, &error));

  CHECK_WORKS(shunt_patch_plan(patch, &plan, &error));
  CHECK(shunt_plan_slots(plan) == 1);
  shunt_plan_free(plan);

  const shunt_options defaults = SHUNT_OPTIONS_INIT;
  shunt_change *above = NULL;
  CHECK_WORKS(shunt_patch_apply(patch, &error));
  CHECK(call_answer() == 11);
  CHECK(shunt_change_is_applied(shunt_patch_change(patch)) == 1);
  CHECK(shunt_change_slots(shunt_patch_change(patch)) == 1);
  CHECK_WORKS(shunt_redirect("c_api_answer", address(twelve), &defaults, &above, &error));
  CHECK(shunt_original(above, 0) == shunt_patch_symbol(patch, "c_api_answer"));
  CHECK_WORKS(shunt_change_revert(above, &error));
  shunt_change_free(above);
  CHECK_FAILS(wrong_state, shunt_patch_apply(patch, &error));
  CHECK_WORKS(shunt_patch_revert(patch, &error));
  CHECK(shunt_patch_change(patch) == NULL);
  shunt_patch_free(patch);

  FILE *file = fopen(path, "r");
  CHECK(file != NULL);
  CHECK_WORKS(shunt_patch_load_fd(fileno(file), "by descriptor", NULL, &patch, &error));
  CHECK(fgetc(file) == 0x7f); /* the descriptor is still the caller's, where it was */
  fclose(file);
  CHECK(strcmp(shunt_patch_name(patch), "by descriptor") == 0);
  shunt_patch_free(patch);

  CHECK_FAILS(invalid_argument, shunt_patch_load(NULL, NULL, &patch, &error));
  CHECK_FAILS(invalid_argument, shunt_patch_load(path, NULL, NULL, &error));
  CHECK_FAILS(invalid_argument, shunt_patch_load_fd(0, NULL, NULL, &patch, &error));
  CHECK_FAILS(invalid_argument, shunt_patch_load_fd(0, "stdin", NULL, NULL, &error));
  CHECK_FAILS(invalid_argument, shunt_patch_plan(NULL, &plan, &error));
  CHECK_FAILS(invalid_argument, shunt_patch_apply(NULL, &error));
  CHECK_FAILS(invalid_argument, shunt_patch_revert(NULL, &error));
  CHECK(shunt_patch_change(NULL) == NULL);
  CHECK(strcmp(shunt_patch_name(NULL), "") == 0);
  CHECK(shunt_patch_symbol(NULL, "c_api_answer") == NULL);
  shunt_patch_free(NULL);
}

/* ---- the log */

struct log {
  int lines;
  shunt_log_level level;
  char last[512];
};

static void take_line(shunt_log_level level, const char *line, void *user) {
  struct log *log = user;
  ++log->lines;
  log->level = level;
  snprintf(log->last, sizeof log->last, "%s", line);
}

static void apply_and_revert(void) {
  shunt_change *change = NULL;
  CHECK_WORKS(shunt_redirect("c_api_second", address(twelve), NULL, &change, &error));
  CHECK_WORKS(shunt_change_revert(change, &error));
  shunt_change_free(change);
}

static void log_sink(void) {
  struct log log = {0};
  shunt_set_log(take_line, &log, SHUNT_LOG_INFO);
  apply_and_revert();
  CHECK(log.lines == 2);
  CHECK(log.level == SHUNT_LOG_INFO);
  CHECK(strstr(log.last, "reverted") != NULL && strchr(log.last, '\n') == NULL);

  shunt_set_log(take_line, &log, SHUNT_LOG_ERROR);
  apply_and_revert();
  CHECK(log.lines == 2);

  shunt_set_log(NULL, NULL, SHUNT_LOG_DEBUG);
  apply_and_revert();
  CHECK(log.lines == 2);
}

int main(int count, char **arguments) {
  CHECK(count == 2);
  codes_and_errors();
  without_errors();
  redirects();
  transactions_and_plans();
  options_of_other_sizes();
  patches(arguments[1]);
  log_sink();
  return 0;
}
