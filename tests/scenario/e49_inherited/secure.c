/* secure.c: a program with shunt inside, which is run with more rights than its user: says whether it is, and what it is told. */
#include <shunt/shunt.h>
#include <stdio.h>
#include <sys/auxv.h>

int main(void) {
  shunt_error *error = NULL;
  const shunt_code code = shunt_control_start(NULL, &error);
  printf("%lu %s\n", getauxval(AT_SECURE), code == SHUNT_OK ? "started" : shunt_code_name(code));
  shunt_error_free(error);
  return 0;
}
