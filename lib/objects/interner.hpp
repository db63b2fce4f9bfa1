// interner.hpp: strings that live as long as it does, the engine's for ever, each kept once. Object names are interned, so that plans,
// changes and errors may name an object that has been unloaded since. A program that loads the same plugins again and again adds nothing.
#pragma once

#include <cstdint>
#include <cstring>
#include <new>

#include "base/page_vector.hpp"
#include "elf/name_hash.hpp"

namespace shunt::core {

class Interner {
 public:
  Interner() = default;
  Interner(const Interner &) = delete;
  Interner &operator=(const Interner &) = delete;
  ~Interner() {
    while (newest_ != nullptr) {
      const Block block = *newest_;
      sys::unmap(newest_, block.size);
      newest_ = block.before;
    }
  }

  /// NULL when there is no memory. Uses no malloc.
  const char *intern(const char *text) {
    const std::size_t size = std::strlen(text) + 1;
    const std::uint32_t hash = name_hash(text, text + size);
    if (2 * (count_ + 1) > known_.size() && !grow()) return nullptr;
    Known *place = place_of(hash);
    for (; place->text != nullptr; place = next(place))
      if (place->hash == hash && std::strcmp(place->text, text) == 0) return place->text;
    if (left_ < size) {
      const std::size_t fresh = sizeof(Block) + size > kBlock ? sizeof(Block) + size : kBlock;
      void *const memory = sys::map_anonymous(fresh, false);
      left_ = 0;
      if (memory == nullptr) return nullptr;
      newest_ = new (memory) Block{newest_, fresh};
      next_ = reinterpret_cast<char *>(newest_ + 1);
      left_ = fresh - sizeof(Block);
    }
    *place = {hash, static_cast<const char *>(std::memcpy(next_, text, size))};
    ++count_;
    next_ += size;
    left_ -= size;
    return place->text;
  }

 private:
  static constexpr std::size_t kBlock = std::size_t{64} << 10;
  struct Block {  // the beginning of one
    Block *before;
    std::size_t size;
  };
  struct Known {
    std::uint32_t hash;
    const char *text;  // NULL: a free place
  };
  Known *place_of(std::uint32_t hash) { return &known_[hash & (known_.size() - 1)]; }
  Known *next(Known *place) { return place + 1 < known_.end() ? place + 1 : known_.begin(); }

  /// Twice as many places, or the first ones.
  bool grow() {
    PageVector<Known> before;
    before.swap(known_);
    if (!known_.assign_zero(before.empty() ? 1024 : 2 * before.size())) {
      known_.swap(before);
      return false;
    }
    for (const Known &known : before) {
      if (known.text == nullptr) continue;
      Known *place = place_of(known.hash);
      while (place->text != nullptr) place = next(place);
      *place = known;
    }
    return true;
  }

  PageVector<Known> known_;  // a hash table: a text lies at the place of its hash, or behind it
  std::size_t count_ = 0;
  Block *newest_ = nullptr;
  char *next_ = nullptr;
  std::size_t left_ = 0;
};

}  // namespace shunt::core
