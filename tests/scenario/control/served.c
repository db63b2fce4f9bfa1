/* served.c: a program that links shunt and starts its control thread, then obeys a line at a time from stdin, those
 * of ../preload/obey.h and these:
 *
 *   socket             shunt_control_path()
 *   redirect           redirects second() itself, by shunt.h
 *   exec               runs /bin/true in a child made by fork(), and waits for it
 *   reuse              closes every descriptor that it did not open, and puts a file of its own in the place of each
 *   mine               whether all those are still its own, and as they were
 *   signals N          sends itself N signals and takes them with sigtimedwait()
 *   die                ends at once, by a signal
 *   quit
 *
 * The folder in FOLDER is watched. Four threads call answer() all the time, and abort() when it answers what no patch says. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <shunt/shunt.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "../preload/obey.h"

static int redirected(void) { return 200; }

static void *call_all_the_time(void *nothing) {
  for (;;) {
    const int got = answer();
    if (got != 1 && got != 11 && got != 12) abort();
    usleep(200); /* nobody waits for it: it leaves the processor to the rest of the test */
  }
  return nothing;
}

static char taken[8192];
static struct stat mine;

static void reuse(void) {
  /* The highest number first: a file of our own that nobody writes. */
  const int file = open("mine", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (write(file, "mine", 4) != 4 || fstat(file, &mine) != 0) abort();
  DIR *folder = opendir("/proc/self/fd");
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    const int fd = atoi(entry->d_name);
    if (fd > 2 && fd != file && fd != dirfd(folder) && fd < (int)sizeof taken) taken[fd] = 1;
  }
  closedir(folder);
  for (int fd = 3; fd < (int)sizeof taken; ++fd)
    if (taken[fd]) close(fd);
  for (int fd = 3; fd < (int)sizeof taken; ++fd)
    if (taken[fd] && dup2(file, fd) != fd) abort();
}

static const char *are_mine(void) {
  for (int fd = 3; fd < (int)sizeof taken; ++fd) {
    struct stat now;
    if (!taken[fd]) continue;
    if (fstat(fd, &now) != 0 || now.st_ino != mine.st_ino || now.st_dev != mine.st_dev)
      return "one is not mine any more";
    if (now.st_size != 4) return "somebody wrote into mine";
  }
  return "all are mine";
}

static void take_signals(int count) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  int got = 0;
  for (int k = 0; k < count; ++k) {
    kill(getpid(), SIGUSR2);
    const struct timespec limit = {10, 0};
    got += sigtimedwait(&set, NULL, &limit) == SIGUSR2;
  }
  printf("%d\n", got);
}

static void exec_in_child(void) {
  const pid_t child = fork();
  if (child == 0) {
    execl("/bin/true", "true", (char *)NULL);
    _exit(127);
  }
  waitpid(child, NULL, 0);
  puts("in the parent");
}

static void log_line(shunt_log_level level, const char *line, void *nothing) {
  (void)level, (void)nothing;
  fprintf(stderr, "%s\n", line);
}

int main(void) {
  begin_to_obey();
  shunt_set_log(log_line, NULL, SHUNT_LOG_INFO);
  shunt_control_options options = SHUNT_CONTROL_OPTIONS_INIT;
  options.folder = getenv("FOLDER");
  shunt_error *error = NULL;
  if (shunt_control_start(&options, &error) != SHUNT_OK) {
    printf("%s\n", shunt_error_message(error));
    shunt_error_free(error);
  } else {
    printf("main %d\n", answer());
  }
  /* In every thread that is made from now on; shunt's is there already and blocks by itself. */
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &blocked, NULL);
  for (int k = 0; k < 4; ++k) {
    pthread_t thread;
    pthread_create(&thread, NULL, call_all_the_time, NULL);
    pthread_detach(thread);
  }
  char line[4096];
  int number = 0;
  while (next_line(line, sizeof line)) {
    if (obey(line)) continue;
    if (strcmp(line, "socket") == 0) {
      printf("%s\n", shunt_control_path());
    } else if (strcmp(line, "redirect") == 0) {
      shunt_change *change = NULL;
      puts(shunt_redirect("second", (void *)&redirected, NULL, &change, NULL) == SHUNT_OK ? "done" : "no");
      shunt_change_free(change);
    } else if (strcmp(line, "exec") == 0) {
      exec_in_child();
    } else if (strcmp(line, "reuse") == 0) {
      reuse();
      puts("reused");
    } else if (strcmp(line, "mine") == 0) {
      puts(are_mine());
    } else if (sscanf(line, "signals %d", &number) == 1) {
      take_signals(number);
    } else if (strcmp(line, "die") == 0) {
      raise(SIGKILL);
    } else if (strcmp(line, "quit") == 0) {
      break;
    }
  }
  return 0;
}
