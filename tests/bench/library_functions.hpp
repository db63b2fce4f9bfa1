// library_functions.hpp: every function of a library that is loaded in this process, ready to be planned.
#pragma once

#include <link.h>

#include <cstdint>
#include <string>
#include <vector>

#include "arch/jump_targets.hpp"
#include "arch/native_code.hpp"

namespace shunt::core {

struct LibraryFunction {
  std::uint64_t begin = 0, end = 0;
  bool has_landing_pads = false;
  std::string name = {};  // empty when no symbol table has it
};

class Library {
 public:
  /// Loads it, since tables of addresses are only filled in then. False, and a line on stderr, when it cannot be.
  bool load(const char *name);

  /// Functions of its symbol tables, and those that .eh_frame describes: static ones count as well.
  [[nodiscard]] const std::vector<LibraryFunction> &functions() const { return functions_; }
  /// What a plan of the k-th function is made of. It refers to this library.
  [[nodiscard]] arch::Function function(std::size_t k) const;
  [[nodiscard]] std::uint64_t base() const { return map_->l_addr; }
  [[nodiscard]] void *handle() const { return handle_; }

 private:
  void add_segments();
  void find_functions();

  void *handle_ = nullptr;
  const link_map *map_ = nullptr;
  arch::Bytes text_, image_, frames_;
  std::vector<arch::Bytes> data_;
  arch::JumpTargets jumps_;
  std::vector<LibraryFunction> functions_;
};

}  // namespace shunt::core
