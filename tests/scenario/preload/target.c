/* target.c: a program that the shim is loaded into. It says "main" and what answer() is, then obeys a line at a time from stdin,
 * those of obey.h and these:
 *
 *   rename A B         renames a file, and then forks at once
 *   take SIGNAL        installs a handler for the signal
 *   close              closes every descriptor but the standard ones, as a daemon may
 *   quit
 *
 * With WITH_SHUNT the program has a library of shunt of its own:
 *   engine             the file that shunt_version() lies in
 *   redirect           redirects answer() to one that adds 100 to the original
 *   conflicts          of that redirect
 *   control            shunt_control_start(), as a server does that brings shunt itself
 *   socket             shunt_control_path() */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "obey.h"

static void on_signal(int number) { (void)number; }

#ifdef WITH_SHUNT
#include <shunt/shunt.h>

static shunt_change *change;
static void *original;
static int add_100(void) {
  int (*below)(void);
  memcpy(&below, &original, sizeof below);
  return below() + 100;
}

static void obey_with_shunt(const char *line) {
  Dl_info info;
  if (strcmp(line, "engine") == 0) {
    puts(dladdr((void *)&shunt_version, &info) != 0 ? info.dli_fname : "nowhere");
  } else if (strcmp(line, "redirect") == 0) {
    shunt_options options = SHUNT_OPTIONS_INIT;
    options.original = &original;
    shunt_error *error = NULL;
    shunt_redirect("answer", (void *)&add_100, &options, &change, &error);
    puts(error == NULL ? "done" : shunt_error_message(error));
  } else if (strcmp(line, "conflicts") == 0) {
    printf("%zu\n", shunt_change_conflicts(change));
  } else if (strcmp(line, "control") == 0) {
    shunt_error *error = NULL;
    puts(shunt_control_start(NULL, &error) == SHUNT_OK ? "started" : shunt_error_message(error));
    shunt_error_free(error);
  } else if (strcmp(line, "socket") == 0) {
    puts(shunt_control_path());
  }
}
#else
static void obey_with_shunt(const char *line) { (void)line; }
#endif

int main(void) {
  begin_to_obey();
  printf("main %d\n", answer());
  char line[4096], from[2048], to[2048];
  int number = 0;
  while (next_line(line, sizeof line)) {
    if (obey(line)) continue;
    if (sscanf(line, "rename %2047s %2047s", from, to) == 2) {
      if (rename(from, to) != 0) puts("cannot rename");
      fork_and_wait();
    } else if (sscanf(line, "take %d", &number) == 1) {
      signal(number, on_signal);
      puts("taken");
    } else if (strcmp(line, "close") == 0) {
      close_range(3, ~0U, 0);
      puts("closed");
    } else if (strcmp(line, "quit") == 0) {
      return 0;
    } else {
      obey_with_shunt(line);
    }
  }
  return 0;
}
