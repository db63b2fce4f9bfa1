// library_functions.hpp: every function of a library that is loaded in this process, ready to be planned.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "objects/functions.hpp"

namespace shunt::core {

struct LibraryFunction {
  FunctionDescription description;
  std::string name;  // empty when no symbol table has it
};

class Library {
 public:
  /// Loads it, since tables of addresses are only filled in then. False, and a line on stderr, when it cannot be.
  bool load(const char *name);

  /// Functions that have names, and those that .eh_frame describes: static ones count in a stripped library as well. By address.
  [[nodiscard]] const std::vector<LibraryFunction> &functions() const { return functions_; }
  /// What a plan of the k-th function is made of. It refers to this library.
  [[nodiscard]] const arch::Function &function(std::size_t k) const { return functions_[k].description.function; }
  [[nodiscard]] std::uint64_t base() const { return base_; }
  [[nodiscard]] void *handle() const { return handle_; }

 private:
  void *handle_ = nullptr;
  std::uint64_t base_ = 0;
  ObjectCode code_;
  std::vector<LibraryFunction> functions_;
};

}  // namespace shunt::core
