// result.hpp: a value or an Error, spelled like std::expected (which g++ 12 has in C++23 only).
#pragma once

#include <utility>
#include <variant>

#include "base/error.hpp"

namespace shunt::core {

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit, as std::expected
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit, as std::unexpected
  explicit operator bool() const { return state_.index() == 0; }
  T &operator*() { return *std::get_if<0>(&state_); }
  const T &operator*() const { return *std::get_if<0>(&state_); }
  T *operator->() { return std::get_if<0>(&state_); }
  const T *operator->() const { return std::get_if<0>(&state_); }
  [[nodiscard]] Error &error() { return *std::get_if<1>(&state_); }
  [[nodiscard]] const Error &error() const { return *std::get_if<1>(&state_); }

 private:
  std::variant<T, Error> state_;
};

struct Done {};

}  // namespace shunt::core
