// interner.hpp: strings that live for ever, each kept once. Object names are interned, so that plans, changes and errors may
// name an object that has been unloaded since. A program that loads the same plugins again and again adds nothing.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/page_vector.hpp"
#include "elf/name_hash.hpp"

namespace shunt::core {

class Interner {
 public:
  /// NULL when there is no memory. Uses no malloc.
  const char *intern(const char *text) {
    const std::size_t size = std::strlen(text) + 1;
    const std::uint32_t hash = name_hash(text, text + size);
    for (const Known &known : known_)
      if (known.hash == hash && std::strcmp(known.text, text) == 0) return known.text;
    if (left_ < size) {
      const std::size_t fresh = size > kBlock ? size : kBlock;
      next_ = static_cast<char *>(sys::map_anonymous(fresh, false));
      left_ = next_ == nullptr ? 0 : fresh;
      if (next_ == nullptr) return nullptr;
    }
    if (!known_.push_back({hash, next_})) return nullptr;
    const char *kept = static_cast<const char *>(std::memcpy(next_, text, size));
    next_ += size;
    left_ -= size;
    return kept;
  }

 private:
  static constexpr std::size_t kBlock = std::size_t{64} << 10;
  struct Known {
    std::uint32_t hash;
    const char *text;
  };
  PageVector<Known> known_;
  char *next_ = nullptr;
  std::size_t left_ = 0;
};

}  // namespace shunt::core
