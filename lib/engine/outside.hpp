// outside.hpp: what only the dynamic linker can give, asked for while the engine is not held.
//
// dlopen() takes a lock that is held while constructors run, and a constructor may be waiting for the engine: so the engine never
// calls it. What a transaction turns out to need is noted here; the transaction is given up before it changed anything, the engine
// let go, provide() called, and the transaction begun anew. That happens for the first entry of a process (the decoder), and where
// code of an object is read that may be unloaded meanwhile.
#pragma once

#include <cstdint>
#include <vector>

#include "objects/object_table.hpp"

namespace shunt::core {

class Outside {
 public:
  enum class State : std::uint8_t { held, wanted, failed };

  Outside() = default;
  Outside(const Outside &) = delete;
  Outside &operator=(const Outside &) = delete;
  /// Lets objects go. Their destructors may run then, when the program closed them meanwhile.
  ~Outside();

  /// Whether the library that decodes instructions is there.
  State decoder();
  /// Whether an object stays loaded as long as this lives. `linked` is what the dynamic linker calls it, interned.
  State keep(ObjectId id, const char *linked, std::uintptr_t base);

  /// Something was wanted: let go of the engine, call provide(), begin anew.
  [[nodiscard]] bool is_wanting() const { return is_wanting_; }
  void provide();

 private:
  struct Kept {
    ObjectId id;
    const char *linked;
    std::uintptr_t base;
    void *handle;
    State state;
  };
  std::vector<Kept> kept_;
  State decoder_ = State::held;
  bool is_wanting_ = false;
};

}  // namespace shunt::core
