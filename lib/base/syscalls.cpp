#include "base/syscalls.hpp"

#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

namespace shunt::core::sys {
namespace {

/// The kernel orders an unmap before the map that gives the same address to another thread. ThreadSanitizer does not see raw
/// system calls, so it is told here, by what costs nothing beside one.
void order_mappings() {
  static std::uintptr_t changes = 0;
  __atomic_fetch_add(&changes, 1, __ATOMIC_ACQ_REL);
}

}  // namespace

void *map_anonymous(std::size_t size, bool populate) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | (populate ? MAP_POPULATE : 0);
  const long address = call(SYS_mmap, nullptr, size, PROT_READ | PROT_WRITE, flags, -1, 0L);
  order_mappings();
  return address == -1 ? nullptr : reinterpret_cast<void *>(address);
}

void *remap(void *address, std::size_t old_size, std::size_t new_size) {
  order_mappings();  // it gives an address back and gets another
  const long moved = call(SYS_mremap, address, old_size, new_size, MREMAP_MAYMOVE);
  order_mappings();
  return moved == -1 ? nullptr : reinterpret_cast<void *>(moved);
}

void unmap(void *address, std::size_t size) {
  order_mappings();
  call(SYS_munmap, address, size);
}

namespace {

// The block that is kept: its address, and in the low bits, which are 0 in the address of a page, how many pages it has. The
// block itself is never touched here: whoever gives it back has stopped using it.
constexpr std::size_t kKeptAtMost = std::size_t{512} << 10;
std::uintptr_t kept = 0;

std::size_t kept_size(std::uintptr_t block) { return block % page_size() * page_size(); }
void *kept_address(std::uintptr_t block) { return reinterpret_cast<void *>(block / page_size() * page_size()); }

}  // namespace

void *take_pages(std::size_t &size) {
  const std::uintptr_t block = __atomic_exchange_n(&kept, 0, __ATOMIC_ACQ_REL);
  const std::size_t has = kept_size(block);
  if (block != 0 && has >= size && has / 4 <= size) {
    size = has;
    return kept_address(block);
  }
  if (block != 0) give_pages(kept_address(block), has);
  return map_anonymous(size, false);
}

void give_pages(void *address, std::size_t size) {
  // The larger of two is worth more.
  if (size > kKeptAtMost || size < kept_size(__atomic_load_n(&kept, __ATOMIC_ACQUIRE))) return unmap(address, size);
  const std::uintptr_t block = reinterpret_cast<std::uintptr_t>(address) + size / page_size();
  const std::uintptr_t other = __atomic_exchange_n(&kept, block, __ATOMIC_ACQ_REL);
  if (other != 0) unmap(kept_address(other), kept_size(other));
}

std::intptr_t map(std::uintptr_t address, std::size_t size, int protection, int flags, int fd, std::size_t offset) {
  const long mapped = call(SYS_mmap, address, size, protection, flags, fd, offset);
  return mapped == -1 ? -errno : mapped;
}

int memory_file(const char *name) {
  // Nobody executes the file, and where vm.memfd_noexec is set no other may be made. Kernels before 6.3 do not know the flag.
  constexpr unsigned kNotExecuted = 8;  // MFD_NOEXEC_SEAL
  long fd = call(SYS_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING | kNotExecuted);
  if (fd == -1 && errno == EINVAL) fd = call(SYS_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  return fd == -1 ? -errno : static_cast<int>(fd);
}

int protect(std::uintptr_t address, std::size_t size, int protection) {
  return call(SYS_mprotect, address, size, protection) == 0 ? 0 : -errno;
}

int thread_id() { return static_cast<int>(call(SYS_gettid)); }

std::size_t page_size() {
  static const std::size_t size = getauxval(AT_PAGESZ);
  return size;
}

}  // namespace shunt::core::sys
