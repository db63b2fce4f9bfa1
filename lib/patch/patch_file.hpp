// patch_file.hpp: a patch file that was copied and looked at, and whose code has not run. What is known of it here is what is
// loaded later: everything is read from the one private, sealed copy (a memfd), which nobody can change.
#pragma once

#include <string>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "elf/file_image.hpp"
#include "engine/engine.hpp"
#include "patch/exports.hpp"

namespace shunt::core {

struct PatchOptions {
  std::vector<std::string> symbols;  // NAME or NAME=REPLACEMENT; empty: every strong exported function
  std::vector<std::string> callers, not_callers;
  std::string provider;
  Reach reach = Reach::automatic;
  std::vector<std::string> also;
  bool keeps_code = false;  // it stays mapped after a revert
  bool dlsym = false;
};

/// What the log and the status say about a file.
struct FileFacts {
  std::string file;      // what it was called
  std::string build_id;  // hexadecimal, "" when it has none
  std::string sha256;
  std::uint64_t size = 0;
};

class PatchFile {
 public:
  /// Everything that can be wrong with a file by itself is found here.
  /// Errors: patch_unreadable, patch_malformed, patch_architecture, patch_no_exports, unknown_symbol.
  static Result<PatchFile> read(int fd, const char *name, const PatchOptions &options);

  [[nodiscard]] const FileFacts &facts() const { return facts_; }
  [[nodiscard]] const Image &image() const { return image_.image(); }
  [[nodiscard]] const std::vector<Replacement> &replacements() const { return replacements_; }
  [[nodiscard]] Fd &copy() { return copy_; }

  /// What applying the file would write. It is not loaded, so the plan cannot be committed.
  /// Errors: as Engine::plan(), patch_undefined_symbols, patch_matches_nothing.
  [[nodiscard]] Result<std::unique_ptr<Plan>> plan(const PatchOptions &options) const;
  /// The libraries that it needs and that are not loaded.
  [[nodiscard]] std::vector<std::string> needs() const;
  /// The names that it needs and nobody in the process defines, with commas.
  [[nodiscard]] std::string names_nobody_defines() const;

 private:
  PatchFile(Fd copy, FileImage image, FileFacts facts, std::vector<Replacement> replacements)
      : copy_(std::move(copy)),
        image_(std::move(image)),
        facts_(std::move(facts)),
        replacements_(std::move(replacements)) {}

  Fd copy_;
  FileImage image_;
  FileFacts facts_;
  std::vector<Replacement> replacements_;
};

/// The error for a patch whose requests found nothing.
Error nothing_matches(const std::string &name, const Requests &requests);

}  // namespace shunt::core
