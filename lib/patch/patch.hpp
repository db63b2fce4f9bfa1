// patch.hpp: a shared library of replacements. A plain .so needs nothing from us: every strong function that it exports
// replaces the function of its name.
//
// What is loaded is a private, sealed copy of the file (a memfd): the file may be rebuilt or replaced at any time, and a new
// file of the same name is a new patch, which the dynamic linker would otherwise take for the old one. All that can be
// wrong with it is looked for before it is loaded, since loading runs its constructors.
//
// A patch that was applied once stays mapped after its revert: a thread may still be inside its code.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "elf/file_image.hpp"
#include "engine/engine.hpp"

namespace shunt::core {

struct PatchOptions {
  std::vector<std::string> symbols;  // NAME or NAME=REPLACEMENT; empty: every strong exported function
  std::vector<std::string> callers, not_callers;
  std::string provider;
};

class Patch {
 public:
  static Result<std::unique_ptr<Patch>> load(int fd, const char *name, const PatchOptions &options);
  Patch(const Patch &) = delete;
  Patch &operator=(const Patch &) = delete;
  ~Patch();

  [[nodiscard]] Result<std::unique_ptr<Plan>> plan() const;
  Result<Done> apply();
  Result<Done> revert();
  [[nodiscard]] Change *change() const { return change_ != nullptr && change_->is_applied ? change_.get() : nullptr; }
  [[nodiscard]] const std::string &name() const { return name_; }
  [[nodiscard]] void *symbol(const char *symbol) const;

 private:
  explicit Patch(const char *name) : name_(name) {}
  [[nodiscard]] std::optional<Error> nothing_matches(const Plan &plan) const;

  std::string name_;
  void *handle_ = nullptr;     // of dlopen
  std::uintptr_t inside_ = 0;  // an address inside the loaded patch
  Requests requests_;
  std::unique_ptr<Change> change_;
  bool was_applied_ = false;
};

}  // namespace shunt::core
