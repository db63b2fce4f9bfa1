// page_vector.hpp: a growing array of plain data in pages of its own. The engine fills it while it holds the loader's lock,
// where malloc must not be called: a replaced malloc may hold its own lock and wait for the loader's.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>

#include "base/syscalls.hpp"

namespace shunt::core {

template <class T>
class PageVector {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  PageVector() = default;
  PageVector(PageVector &&other) noexcept { swap(other); }
  PageVector &operator=(PageVector &&other) noexcept {
    swap(other);
    return *this;
  }
  ~PageVector() {
    if (data_ != nullptr) sys::give_pages(data_, bytes_);
  }

  /// False when there is no memory; the array is as it was then.
  [[nodiscard]] bool reserve(std::size_t count) {
    if (count <= capacity()) return true;
    if (count > PTRDIFF_MAX / sizeof(T)) return false;
    const std::size_t page = sys::page_size();
    const std::size_t bytes = (std::max(count * sizeof(T), 2 * bytes_) + page - 1) / page * page;
    std::size_t got = bytes;
    void *grown = data_ == nullptr ? sys::take_pages(got) : sys::remap(data_, bytes_, bytes);
    if (grown == nullptr) return false;
    data_ = static_cast<T *>(grown);
    bytes_ = got;
    return true;
  }
  [[nodiscard]] bool push_back(const T &value) {
    if (size_ == capacity() && !reserve(size_ + 1)) return false;
    data_[size_++] = value;
    return true;
  }
  [[nodiscard]] bool assign(std::span<const T> values) {
    if (!reserve(values.size())) return false;
    if (!values.empty()) std::memcpy(static_cast<void *>(data_), values.data(), values.size_bytes());
    size_ = values.size();
    return true;
  }
  /// `count` items that are all zero bytes.
  [[nodiscard]] bool assign_zero(std::size_t count) {
    if (!reserve(count)) return false;
    if (count > 0) std::memset(static_cast<void *>(data_), 0, count * sizeof(T));
    size_ = count;
    return true;
  }
  void clear() { size_ = 0; }
  /// After the first `size` items were filled in through data(); `size` is within the capacity.
  void set_size(std::size_t size) { size_ = size; }

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] std::size_t capacity() const { return bytes_ / sizeof(T); }
  T *data() { return data_; }
  const T *data() const { return data_; }
  T &operator[](std::size_t k) { return data_[k]; }
  const T &operator[](std::size_t k) const { return data_[k]; }
  T &back() { return data_[size_ - 1]; }
  T *begin() { return data_; }
  T *end() { return data_ + size_; }
  const T *begin() const { return data_; }
  const T *end() const { return data_ + size_; }

  void swap(PageVector &other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(bytes_, other.bytes_);
  }

 private:
  T *data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace shunt::core
