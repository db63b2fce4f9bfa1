// patch.hpp: a shared library of replacements. A plain .so needs nothing from us: every strong function that it exports
// replaces the function of its name.
//
// What is loaded is a private, sealed copy of the file (patch_file.hpp): the file may be rebuilt or replaced at any time, and a new
// file of the same name is a new patch, which the dynamic linker would otherwise take for the old one. All that can be
// wrong with it is looked for before it is loaded, since loading runs its constructors.
//
// When its code is unmapped after a revert is the registry's to see to (patch_code.hpp): a thread may still be inside it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "engine/engine.hpp"
#include "patch/patch_code.hpp"
#include "patch/patch_file.hpp"

namespace shunt::core {

class Patch {
 public:
  static Result<std::unique_ptr<Patch>> load(int fd, const char *name, const PatchOptions &options);
  static Result<std::unique_ptr<Patch>> load(PatchFile file, const PatchOptions &options);
  Patch(const Patch &) = delete;
  Patch &operator=(const Patch &) = delete;
  ~Patch();

  [[nodiscard]] Result<std::unique_ptr<Plan>> plan() const;
  Result<Done> apply();  // these two: through Registry, which knows what is applied
  Result<Done> revert();
  [[nodiscard]] Change *change() const { return change_ != nullptr && change_->is_applied ? change_.get() : nullptr; }
  /// Slots that the last revert left alone.
  [[nodiscard]] std::size_t last_conflicts() const { return change_ != nullptr ? change_->conflicts : 0; }
  [[nodiscard]] const std::string &name() const { return facts_.file; }
  [[nodiscard]] const FileFacts &facts() const { return facts_; }
  [[nodiscard]] const std::vector<Replacement> &replacements() const { return replacements_; }
  [[nodiscard]] void *symbol(const char *symbol) const { return code_->symbol(symbol); }
  [[nodiscard]] const std::shared_ptr<PatchCode> &code() const { return code_; }
  /// Its code stays mapped after a revert.
  [[nodiscard]] bool keeps_code() const { return keeps_code_; }

 private:
  explicit Patch(FileFacts facts) : facts_(std::move(facts)) {}

  FileFacts facts_;
  std::shared_ptr<PatchCode> code_;
  std::vector<Replacement> replacements_;
  Requests requests_;  // one for each replacement
  std::unique_ptr<Change> change_;
  bool keeps_code_ = false;
};

}  // namespace shunt::core
