// syscalls.hpp: the system calls that the engine makes while it changes memory, made by the instruction itself and never through
// mmap(), mprotect(), syscall() and so on: those are functions that users redirect, at their slots and at their entries, and
// where shunt is linked statically into the program, its own slots for them are the program's slots. But for call() and
// raw_call() they return -errno on failure, as the kernel does.
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace shunt::core::sys {

constexpr long kMostErrno = 4095;

/// What the kernel answers: -errno on failure. It calls no function. (Defined in lib/arch, which knows the instruction.)
long raw_call(long number, const long (&arguments)[6]);

/// As syscall(2): -1 and errno on failure. On success errno is not touched.
template <typename... Arguments>
long call(long number, Arguments... arguments) {
  static_assert(sizeof...(arguments) <= 6);
  [[maybe_unused]] const auto word = [](auto argument) {
    if constexpr (std::is_null_pointer_v<decltype(argument)>)
      return 0L;
    else if constexpr (std::is_integral_v<decltype(argument)>)
      return static_cast<long>(argument);
    else
      return reinterpret_cast<long>(argument);
  };
  const long words[6] = {word(arguments)...};
  const long answer = raw_call(number, words);
  if (answer < 0 && answer >= -kMostErrno) {
    errno = static_cast<int>(-answer);
    return -1;
  }
  return answer;
}

/// Anonymous private memory, readable and writable. NULL when there is none. `populate`: have the pages now, in one go.
void *map_anonymous(std::size_t size, bool populate);
/// Grows a mapping, moving it when needed. NULL when there is no memory; the old one stays then.
void *remap(void *address, std::size_t old_size, std::size_t new_size);
void unmap(void *address, std::size_t size);
/// Pages of any content, `size` bytes at least; `size` becomes what they are. One block of pages that was given back lately is
/// kept for this: a fresh page costs more than filling it. NULL when there is no memory.
void *take_pages(std::size_t &size);
void give_pages(void *address, std::size_t size);
/// mmap as it is. The address, or -errno.
std::intptr_t map(std::uintptr_t address, std::size_t size, int protection, int flags, int fd, std::size_t offset);
/// A file in memory without a name, closed on exec, that can be sealed. The descriptor, or -errno.
int memory_file(const char *name);
int protect(std::uintptr_t address, std::size_t size, int protection);
int thread_id();
std::size_t page_size();

}  // namespace shunt::core::sys
