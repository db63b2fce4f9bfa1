#include "memory/write_window.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/syscalls.hpp"

namespace shunt::core {
namespace {

constexpr std::uintptr_t kSmallPages = 8;  // opening so many is cheaper than splitting and joining mappings

/// mprotect answers EPERM for a sealed page, and so does a sandbox that forbids mprotect altogether. A page of our own,
/// which nobody sealed, tells the two apart.
bool sandbox_forbids_protect() {
  const std::size_t page = sys::page_size();
  void *own = sys::map_anonymous(page, false);
  if (own == nullptr) return false;
  const bool forbidden = sys::protect(reinterpret_cast<std::uintptr_t>(own), page, PROT_READ) != 0 ||
                         sys::protect(reinterpret_cast<std::uintptr_t>(own), page, PROT_READ | PROT_WRITE) != 0;
  sys::unmap(own, page);
  return forbidden;
}

}  // namespace

bool WriteWindows::look_up(std::uintptr_t address, Mapping &mapping, const char *object, Problem &problem) {
  const int failed = protections_.at(address, mapping);
  if (failed == 0) return true;
  if (!problem) {
    problem.sys_errno = -failed;
    problem.address = address;
    problem.object = object;
  }
  problem.set(Code::protection_refused, "cannot learn from /proc/self/maps what protects the slot at %#lx of %s",
              address, object);
  return false;
}

bool WriteWindows::open_span(std::uintptr_t first_word, std::uintptr_t last_word, const Mapping &mapping,
                             const char *object, Problem &problem) {
  if ((mapping.protection & PROT_WRITE) != 0) return true;
  const std::uintptr_t page = sys::page_size();
  Span span = {mapping.begin, mapping.end, mapping.protection};
  int open = PROT_WRITE;
  if (mapping.end - mapping.begin > kSmallPages * page) {
    span.begin = std::max(mapping.begin, first_word / page * page);
    span.end = std::min(mapping.end, (last_word + sizeof(std::uintptr_t) + page - 1) / page * page);
    open = mapping.protection | PROT_WRITE;
  }

  int failed = 0;
  const char *why = "mprotect was refused";
  if ((mapping.protection & PROT_EXEC) != 0) {
    failed = -EACCES;
    why = "its page is executable, and shunt makes no page writable and executable";
  } else if (!spans_.reserve(spans_.size() + 1)) {
    problem.set(Code::out_of_memory, "no memory to note which pages were opened");
    return false;
  } else {
    failed = sys::protect(span.begin, span.end - span.begin, open);
    if (failed == -EPERM) why = sandbox_forbids_protect() ? "a sandbox forbids mprotect" : "its page is sealed (mseal)";
  }
  if (failed == 0) return spans_.push_back(span);
  if (!problem) {
    problem.sys_errno = -failed;
    problem.address = first_word;
    problem.object = object;
  }
  problem.set(Code::protection_refused, "cannot write the slot at %#lx of %s: %s", first_word, object, why);
  return false;
}

bool WriteWindows::close() {
  bool restored = true;
  for (std::size_t k = spans_.size(); k-- > 0;) {
    const Span &span = spans_[k];
    // Merging two mappings into one can ask the kernel for memory for an instant, splitting as well: try again once.
    if (sys::protect(span.begin, span.end - span.begin, span.protection) != 0 &&
        sys::protect(span.begin, span.end - span.begin, span.protection) != 0)
      restored = false;
  }
  spans_.clear();
  return restored;
}

bool write_through_kernel(std::uintptr_t address, std::uintptr_t value) {
  const Fd memory(static_cast<int>(sys::call(SYS_openat, AT_FDCWD, "/proc/self/mem", O_RDWR | O_CLOEXEC)));
  return memory.is_open() &&
         sys::call(SYS_pwrite64, memory.get(), &value, sizeof value, address) == static_cast<long>(sizeof value);
}

}  // namespace shunt::core
