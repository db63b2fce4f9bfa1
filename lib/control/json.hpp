// json.hpp: writes JSON (RFC 8259). The server's process writes and never reads it, so this is all that it needs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace shunt::control {

/// A document, from front to back. begin and end must match; key() goes before each value of an object.
class Json {
 public:
  Json &begin_object() { return open('{'); }
  Json &end_object() { return close('}'); }
  Json &begin_array() { return open('['); }
  Json &end_array() { return close(']'); }
  Json &key(std::string_view name);

  /// Bytes that are no UTF-8 become U+FFFD.
  Json &string(std::string_view text);
  Json &number(std::int64_t value);
  Json &boolean(bool value);
  Json &null();
  Json &address(std::uint64_t value);  // "0x7f00"

  [[nodiscard]] const std::string &text() const { return text_; }
  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  Json &open(char bracket);
  Json &close(char bracket);
  void before_value();
  void append_quoted(std::string_view text);

  std::string text_;
  bool needs_comma_ = false;
};

}  // namespace shunt::control
