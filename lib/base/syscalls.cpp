#include "base/syscalls.hpp"

#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace shunt::core::sys {

void *map_anonymous(std::size_t size, bool populate) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | (populate ? MAP_POPULATE : 0);
  const long address = syscall(SYS_mmap, nullptr, size, PROT_READ | PROT_WRITE, flags, -1, 0L);
  return address == -1 ? nullptr : reinterpret_cast<void *>(address);
}

void *remap(void *address, std::size_t old_size, std::size_t new_size) {
  const long moved = syscall(SYS_mremap, address, old_size, new_size, MREMAP_MAYMOVE);
  return moved == -1 ? nullptr : reinterpret_cast<void *>(moved);
}

void unmap(void *address, std::size_t size) { syscall(SYS_munmap, address, size); }

int protect(std::uintptr_t address, std::size_t size, int protection) {
  return syscall(SYS_mprotect, address, size, protection) == 0 ? 0 : -errno;
}

int thread_id() { return static_cast<int>(syscall(SYS_gettid)); }

std::size_t page_size() {
  static const std::size_t size = getauxval(AT_PAGESZ);
  return size;
}

}  // namespace shunt::core::sys
