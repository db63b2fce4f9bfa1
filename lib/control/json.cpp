#include "control/json.hpp"

#include <cstdio>

namespace shunt::control {
namespace {

/// How many bytes at the front of `text` are one character of UTF-8 (RFC 3629), 0 when they are none.
std::size_t character_size(std::string_view text) {
  const auto byte = [&](std::size_t k) { return k < text.size() ? static_cast<unsigned char>(text[k]) : 0U; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  unsigned low = 0x80,
           high = 0xbf;  // of the second byte: no character longer than need be, no surrogate, none too large
  std::size_t size = 0;
  if (first >= 0xc2 && first <= 0xdf) size = 2;
  if (first >= 0xe0 && first <= 0xef) size = 3;
  if (first >= 0xf0 && first <= 0xf4) size = 4;
  if (first == 0xe0) low = 0xa0;
  if (first == 0xed) high = 0x9f;
  if (first == 0xf0) low = 0x90;
  if (first == 0xf4) high = 0x8f;
  if (size == 0 || byte(1) < low || byte(1) > high) return 0;
  for (std::size_t k = 2; k < size; ++k)
    if (byte(k) < 0x80 || byte(k) > 0xbf) return 0;
  return size;
}

}  // namespace

void Json::before_value() {
  if (needs_comma_) text_ += ',';
  needs_comma_ = true;
}

Json &Json::open(char bracket) {
  before_value();
  text_ += bracket;
  needs_comma_ = false;
  return *this;
}

Json &Json::close(char bracket) {
  text_ += bracket;
  needs_comma_ = true;
  return *this;
}

Json &Json::key(std::string_view name) {
  before_value();
  append_quoted(name);
  text_ += ':';
  needs_comma_ = false;
  return *this;
}

Json &Json::string(std::string_view text) {
  before_value();
  append_quoted(text);
  return *this;
}

void Json::append_quoted(std::string_view text) {
  text_ += '"';
  while (!text.empty()) {
    const std::size_t size = character_size(text);
    const auto first = static_cast<unsigned char>(text[0]);
    if (size == 0) {
      text_ += "\xef\xbf\xbd";
    } else if (first == '"' || first == '\\') {
      text_ += '\\';
      text_ += text[0];
    } else if (first == '\n') {
      text_ += "\\n";
    } else if (first < 0x20 || first == 0x7f) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", first);
      text_ += escaped;
    } else {
      text_.append(text.substr(0, size));
    }
    text.remove_prefix(size == 0 ? 1 : size);
  }
  text_ += '"';
}

Json &Json::number(std::int64_t value) {
  before_value();
  text_ += std::to_string(value);
  return *this;
}

Json &Json::boolean(bool value) {
  before_value();
  text_ += value ? "true" : "false";
  return *this;
}

Json &Json::null() {
  before_value();
  text_ += "null";
  return *this;
}

Json &Json::address(std::uint64_t value) {
  char digits[24];
  std::snprintf(digits, sizeof digits, "0x%llx", static_cast<unsigned long long>(value));
  return string(digits);
}

}  // namespace shunt::control
