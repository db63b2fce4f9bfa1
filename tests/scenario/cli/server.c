/* server.c: a process that does what datagrams tell it: it has a socket named after its PID in the current folder.
 *
 *   call         answers what answer() of libprovider returns, and what the program's own static function does
 *   look-up      answers what answer() is that dlsym() finds
 *   namespace    loads a library into a namespace of its own
 *   fork         answers from the child, with its PID
 *   fork-many N  as fast as it can, each child serving by itself; answers N
 *   exec         becomes another process of the same program, with the same PID
 *   hook         makes its slot for second() lead elsewhere, as another tool would
 *   sandbox      mprotect() is refused from now on: what is loaded later cannot be
 *   seal         the same, and what its slots hold now they hold for ever
 *   rename NAME  changes what it is called
 *   exit         ends */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

int answer(void);
int second(void);

static int serve_here(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%d", (int)getpid());
  unlink(address.sun_path);
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0) abort();
  return fd;
}

static int hooked(void) { return 99; }

/* The first slot for a symbol in this program. The table is of the machine's own relocations with addends. */
static void *find_slot(const char *name) {
  const char *strings = NULL;
  const ElfW(Sym) *symbols = NULL;
  const ElfW(Rela) *table = NULL;
  size_t size = 0;
  for (const ElfW(Dyn) *entry = _DYNAMIC; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_STRTAB) strings = (const char *)entry->d_un.d_ptr;
    if (entry->d_tag == DT_SYMTAB) symbols = (const void *)entry->d_un.d_ptr;
    if (entry->d_tag == DT_JMPREL) table = (const void *)entry->d_un.d_ptr;
    if (entry->d_tag == DT_PLTRELSZ) size = entry->d_un.d_val;
  }
  const struct link_map *map = _r_debug.r_map;
  for (size_t k = 0; k < size / sizeof *table; ++k)
    if (strcmp(strings + symbols[ELF64_R_SYM(table[k].r_info)].st_name, name) == 0)
      return (void *)(map->l_addr + table[k].r_offset);
  abort();
}

static void protect_page_of(void **slot, int protection) {
  const uintptr_t page = (uintptr_t)slot & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
  if (mprotect((void *)page, (size_t)sysconf(_SC_PAGESIZE), protection) != 0) abort();
}

static void hook(void) {
  void **const slot = find_slot("second");
  protect_page_of(slot, PROT_READ | PROT_WRITE);
  *slot = (void *)hooked;
}

static void sandbox(void) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) abort();
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0) abort();
}

static void seal(void) {
  protect_page_of(find_slot("answer"), PROT_READ);
  sandbox();
}

int main(int count, char **words) {
  (void)count;
  signal(SIGCHLD, SIG_IGN);
  int fd = serve_here();
  puts("ready");
  fflush(stdout);
  for (;;) {
    char text[64] = "";
    struct sockaddr_un from;
    socklen_t size = sizeof from;
    const ssize_t got = recvfrom(fd, text, sizeof text - 1, 0, (struct sockaddr *)&from, &size);
    if (got < 0) continue;
    char reply[64] = "done";
    if (strcmp(text, "call") == 0) {
      snprintf(reply, sizeof reply, "%d %d", answer(), second());
    } else if (strcmp(text, "look-up") == 0) {
      snprintf(reply, sizeof reply, "%d", ((int (*)(void))dlsym(RTLD_DEFAULT, "answer"))());
    } else if (strcmp(text, "namespace") == 0) {
      if (dlmopen(LM_ID_NEWLM, "libm.so.6", RTLD_NOW) == NULL) abort();
    } else if (strcmp(text, "fork") == 0) {
      if (fork() != 0) continue; /* the child answers */
      close(fd);
      fd = serve_here();
      snprintf(reply, sizeof reply, "%d", (int)getpid());
    } else if (strncmp(text, "fork-many ", 10) == 0) {
      int left = atoi(text + 10);
      while (left-- > 0)
        if (fork() == 0) {
          close(fd);
          fd = serve_here();
          break;
        }
      if (left >= 0) continue;
    } else if (strcmp(text, "exec") == 0) {
      execv("/proc/self/exe", words);
      abort();
    } else if (strcmp(text, "sandbox") == 0) {
      sandbox();
    } else if (strcmp(text, "seal") == 0) {
      seal();
    } else if (strncmp(text, "rename ", 7) == 0) {
      prctl(PR_SET_NAME, text + 7);
    } else if (strcmp(text, "hook") == 0) {
      hook();
    } else if (strcmp(text, "exit") == 0) {
      return 0;
    }
    sendto(fd, reply, strlen(reply), 0, (struct sockaddr *)&from, size);
  }
}
