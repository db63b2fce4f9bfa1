#include "base/syscalls.hpp"

#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

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

namespace {

constexpr std::size_t kKeptAtMost = std::size_t{512} << 10;
struct KeptPages {  // at the front of the block itself
  std::size_t size;
};
KeptPages *kept = nullptr;

}  // namespace

void *take_pages(std::size_t &size) {
  if (KeptPages *block = __atomic_exchange_n(&kept, nullptr, __ATOMIC_ACQUIRE)) {
    if (block->size >= size && block->size / 4 <= size) {
      size = block->size;
      return block;
    }
    give_pages(block, block->size);
  }
  return map_anonymous(size, false);
}

void give_pages(void *address, std::size_t size) {
  auto *block = static_cast<KeptPages *>(address);
  if (size <= kKeptAtMost) {
    block->size = size;
    KeptPages *smaller = __atomic_load_n(&kept, __ATOMIC_ACQUIRE);
    // The larger of two is worth more. Whoever loses the race gives its block to the kernel.
    if (smaller == nullptr &&
        __atomic_compare_exchange_n(&kept, &smaller, block, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
      return;
    smaller = __atomic_exchange_n(&kept, nullptr, __ATOMIC_ACQUIRE);
    if (smaller != nullptr && smaller->size > size) std::swap(smaller, block);
    KeptPages *none = nullptr;
    if (!__atomic_compare_exchange_n(&kept, &none, block, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
      unmap(block, block->size);
    if (smaller != nullptr) unmap(smaller, smaller->size);
    return;
  }
  unmap(address, size);
}

int protect(std::uintptr_t address, std::size_t size, int protection) {
  return syscall(SYS_mprotect, address, size, protection) == 0 ? 0 : -errno;
}

int thread_id() { return static_cast<int>(syscall(SYS_gettid)); }

std::size_t page_size() {
  static const std::size_t size = getauxval(AT_PAGESZ);
  return size;
}

}  // namespace shunt::core::sys
