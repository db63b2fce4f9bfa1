// A program without dynamic linker: nothing is imported, so no slot can be redirected. shunt says so and does not crash.
#include <shunt/shunt.h>
#include <stdio.h>
#include <stdlib.h>

#include <initializer_list>

static void *our_malloc(size_t) { return nullptr; }

int main() {
  for (const char *symbol : {"malloc", "no_such_function"}) {
    shunt_change *change = nullptr;
    shunt_error *error = nullptr;
    shunt_options options = SHUNT_OPTIONS_INIT;
    options.reach = SHUNT_REACH_SLOTS;
    const shunt_code code = shunt_redirect(symbol, reinterpret_cast<void *>(&our_malloc), &options, &change, &error);
    printf("%s: %s\n", shunt_code_name(code), shunt_error_message(error));
    if (code != SHUNT_E_unknown_symbol && code != SHUNT_E_no_caller) return 1;
    shunt_error_free(error);
  }
  void *memory = malloc(1);
  free(memory);
  return memory != nullptr ? 0 : 1;
}
