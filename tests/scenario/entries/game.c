#include "game.h"

#include <unistd.h>

AS_IT_IS int aside(int x) { return x; }
AS_IT_IS int inner(int x) { return x; }
AS_IT_IS int call_inner(int x) { return inner(x) + 0 * x; }
static AS_IT_IS int hidden(int x) { return x; }
int call_hidden(int x) { return hidden(x) + 0; }
__attribute__((visibility("hidden"))) AS_IT_IS int concealed(int x) { return x; }
int call_concealed(int x) { return concealed(x) + 0; }
AS_IT_IS int unnoticed(int x) { return x; }
int call_unnoticed(int x) { return unnoticed(x) + 0; }
AS_IT_IS int first_name(int x) { return x; }
int second_name(int x) __attribute__((alias("first_name")));
int call_first_name(int x) { return first_name(x) + 0; }
AS_IT_IS int taken(int x) { return x; }
AS_IT_IS static int through(int x, int (*function)(int)) { return function(x); }
int call_taken(int x) { return through(x, taken) + 0; }
AS_IT_IS int kept(int x) { return x; }
int (*const volatile table_of_kept[])(int) = {kept};
int call_kept(int x) { return table_of_kept[0](x) + 0; }
AS_IT_IS int one(int x) { return x + 1; }
AS_IT_IS int two(int x) {
  __asm__ volatile("nop; nop; nop; nop");
  return x + 2;
}
AS_IT_IS int three(int x) { return x + 3; }
int call_one(int x) { return one(x) + 0; }
int call_two(int x) { return two(x) + 0; }
int call_three(int x) { return three(x) + 0; }

/* Four bytes, and a function behind it that is not padding. */
__asm__(
    ".text\n"
    ".globl tiny\n"
    ".type tiny, @function\n"
    ".balign 16\n"
    "nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; ret\n"
    "tiny:\n"
    "  lea (%rdi), %eax\n"
    "  ret\n"
    ".size tiny, . - tiny\n"
    ".globl behind_tiny\n"
    ".type behind_tiny, @function\n"
    "behind_tiny:\n"
    "  mov %edi, %eax\n"
    "  ret\n"
    ".size behind_tiny, . - behind_tiny\n");
int call_tiny(int x) { return tiny(x) + 0; }

AS_IT_IS int read_byte(int fd) {
  char byte;
  return read(fd, &byte, 1) == 1 ? byte : -1;
}
/* What it calls returns to its fourth byte, which changes. */
__asm__(
    ".text\n"
    ".globl waits\n"
    ".type waits, @function\n"
    ".balign 16\n"
    "waits:\n"
    "  push %rax\n"
    "  call *%rsi\n"
    "  add $8, %rsp\n"
    "  ret\n"
    ".size waits, . - waits\n");
int call_waits(int fd) { return waits(fd, read_byte) + 0; }
