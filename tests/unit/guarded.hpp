// guarded.hpp: bytes that end exactly where memory ends: the page behind them, and the one before them, cannot be read. So
// looking one byte too far is a fault, with and without a sanitizer.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <new>
#include <span>

namespace unit {

class Guarded {
 public:
  explicit Guarded(std::size_t size) : size_(size) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t inner = (size + page - 1) / page * page;
    total_ = inner + 2 * page;
    void *memory = mmap(nullptr, total_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    all_ = static_cast<std::uint8_t *>(memory);
    if (inner > 0 && mprotect(all_ + page, inner, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
    begin_ = all_ + page + inner - size;
  }
  explicit Guarded(std::span<const std::uint8_t> bytes) : Guarded(bytes.size()) {
    if (!bytes.empty()) std::memcpy(begin_, bytes.data(), bytes.size());
  }
  Guarded(const Guarded &) = delete;
  Guarded &operator=(const Guarded &) = delete;
  ~Guarded() { munmap(all_, total_); }

  [[nodiscard]] std::uint8_t *begin() const { return begin_; }
  [[nodiscard]] std::uint8_t *end() const { return begin_ + size_; }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  std::size_t size_, total_ = 0;
  std::uint8_t *all_ = nullptr, *begin_ = nullptr;
};

}  // namespace unit
