// entry_code.hpp: functions of a few bytes in pages that are mapped from a file as the dynamic linker maps an object's code, and
// what the tests of lib/entry do with them. x86-64.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "entry/entries.hpp"

namespace unit {

using Bytes = std::vector<std::uint8_t>;

/// push rbp; mov rbp, rsp; mov eax, value; add eax, 0; pop rbp; nop; ret: a boundary at 0, 1, 4, 9, 12, 13 and 14. The first three
/// are displaced by a jump.
inline Bytes framed(std::uint32_t value) {
  Bytes code = {0x55, 0x48, 0x89, 0xe5, 0xb8, 0, 0, 0, 0, 0x83, 0xc0, 0x00, 0x5d, 0x90, 0xc3};
  std::memcpy(code.data() + 5, &value, sizeof value);
  return code;
}
/// mov eax, value; ret: its first instruction is as long as a jump.
inline Bytes plain(std::uint32_t value) {
  Bytes code = {0xb8, 0, 0, 0, 0, 0xc3};
  std::memcpy(code.data() + 1, &value, sizeof value);
  return code;
}

class CodePages {
 public:
  explicit CodePages(std::size_t pages, std::uintptr_t address = 0)
      : size_(pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE))), bytes_(size_, 0xcc) {
    fd_ = mkstemp(name_);
    EXPECT_EQ(ftruncate(fd_, static_cast<off_t>(size_)), 0);
    void *const wish = reinterpret_cast<void *>(address);
    memory_ = mmap(wish, size_, PROT_READ | PROT_EXEC, MAP_PRIVATE | (address != 0 ? MAP_FIXED : 0), fd_, 0);
    EXPECT_NE(memory_, MAP_FAILED);
    // An object has more than its code: the file keeps its name in the map when all of this was replaced.
    other_ = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd_, 0);
  }
  CodePages(const CodePages &) = delete;
  CodePages &operator=(const CodePages &) = delete;
  ~CodePages() {
    munmap(memory_, size_);
    munmap(other_, size_);
    close(fd_);
    unlink(name_);
  }

  /// Before anything of it was changed in memory.
  std::uintptr_t put(std::size_t offset, const Bytes &code) {
    std::copy(code.begin(), code.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(offset));
    EXPECT_EQ(pwrite(fd_, bytes_.data(), size_, 0), static_cast<ssize_t>(size_));
    return begin() + offset;
  }
  [[nodiscard]] std::uintptr_t begin() const { return reinterpret_cast<std::uintptr_t>(memory_); }
  [[nodiscard]] std::size_t size() const { return size_; }
  /// Whether the memory is what put() made it.
  [[nodiscard]] bool is_as_put() const { return std::memcmp(memory_, bytes_.data(), size_) == 0; }
  [[nodiscard]] const char *name() const { return name_; }

 private:
  char name_[32] = "/tmp/shunt-entry-XXXXXX";
  const std::size_t size_;
  Bytes bytes_;
  int fd_ = -1;
  void *memory_ = nullptr, *other_ = nullptr;
};

inline int call(std::uintptr_t function) { return reinterpret_cast<int (*)()>(function)(); }

inline shunt::core::EntryTarget target_of(std::uintptr_t function, std::size_t size, std::size_t before = 0,
                                          std::size_t after = 0) {
  shunt::core::EntryTarget target;
  target.function.body = {function, reinterpret_cast<const std::uint8_t *>(function), size};
  target.function.before = before;
  target.function.after = after;
  target.object = "libtest.so";
  target.symbol = "function";
  return target;
}

constexpr std::uint64_t kSoon = 50'000'000, kPatient = 30'000'000'000;  // how long threads are waited for

/// One function, prepared.
struct Redirected {
  shunt::core::Entries &entries;
  shunt::core::EntryId id = 0;
  shunt::core::EntryReport report = {};
  shunt::core::Problem problem = {};

  Redirected(shunt::core::Entries &all, const shunt::core::EntryTarget &target) : entries(all) {
    EXPECT_TRUE(entries.prepare(target, id, problem) && entries.write_trampolines(problem)) << problem.message;
  }
  /// 0: back to the function.
  bool lead(std::uintptr_t to, std::uint64_t wait_ns = kPatient) {
    report = {};
    problem = {};
    shunt::core::EntryStep step = {id, to};
    return entries.commit({&step, 1}, wait_ns, report, problem);
  }
  [[nodiscard]] std::uintptr_t original() const { return entries.trampoline(id); }
};

}  // namespace unit
