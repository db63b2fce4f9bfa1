/* obey.h: what a program of these tests is told by lines on stdin, whatever else it can do:
 *
 *   answer, second     what the function answers
 *   pid                who obeys
 *   fork               a child obeys from now on, until it is told to quit */
#pragma once

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int answer(void);
int second(void);

static void fork_and_wait(void) {
  const pid_t child = fork();
  if (child > 0) waitpid(child, NULL, 0);
  puts(child == 0 ? "in the child" : "in the parent");
}

static void begin_to_obey(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  setvbuf(stdin, NULL, _IONBF, 0); /* a child goes on reading where its parent stopped */
}

/* The next line, without its end; 0 when there is none. */
static int next_line(char *line, int size) {
  if (fgets(line, size, stdin) == NULL) return 0;
  line[strcspn(line, "\n")] = '\0';
  return 1;
}

/* 0 when the line is none of the above. */
static int obey(const char *line) {
  if (strcmp(line, "answer") == 0)
    printf("%d\n", answer());
  else if (strcmp(line, "second") == 0)
    printf("%d\n", second());
  else if (strcmp(line, "pid") == 0)
    printf("%d\n", (int)getpid());
  else if (strcmp(line, "fork") == 0)
    fork_and_wait();
  else
    return 0;
  return 1;
}
