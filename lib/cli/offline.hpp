// offline.hpp: what a patch would reach in programs that nobody runs, as far as their files tell. The dynamic linker and the
// running process know more (dlopen, preloads, lookup scopes): there the answer is a plan.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/entries.hpp"
#include "cli/libraries.hpp"

namespace shunt::cli {

struct OfflineRequest {
  std::string symbol, replacement;
};

struct OfflineCaller {
  std::string path;
  std::uint32_t jump_slots = 0, glob_dats = 0, absolutes = 0;
  [[nodiscard]] std::uint32_t slots() const { return jump_slots + glob_dats + absolutes; }
};

struct Unreached {
  std::string path;  // "": no file in particular
  std::string reason;
  bool was_named = false;  // a file that the user asked about
};

struct InlinedIn {
  std::string path;
  InlinedCopies copies;
};

struct OfflineFunction {
  std::string symbol, replacement;
  std::string provider;  // path; "" where no file defines it
  std::vector<OfflineCaller> callers;
  std::optional<OfflineEntry> entry;  // nothing: no file has the function, or only slots were asked for
  std::vector<InlinedIn> inlined;
  std::vector<Unreached> unreached;

  [[nodiscard]] std::uint32_t slots() const;
  [[nodiscard]] bool is_reached() const { return !callers.empty() || (entry && entry->is_chosen); }
  /// A call that the user asked about goes past the patch.
  [[nodiscard]] bool is_short() const;
};

struct OfflineReport {
  std::vector<OfflineFunction> functions;
  std::vector<std::string> undefined;  // symbols that the patch needs and no file defines
  std::vector<std::string> missing;    // libraries that were not found
  std::vector<Unreached> left_out;     // files that could not take part
  std::vector<Unreached> unknown;      // of which it cannot be told whether they hold inlined copies
  [[nodiscard]] bool is_good() const;
};

/// The functions that a patch replaces where nobody chooses: those that it exports, strong ones.
std::vector<OfflineRequest> default_requests(const core::ElfFile &patch);

struct OfflineOptions {
  std::vector<std::string> callers, not_callers;  // globs against the path or the file's name
  std::string provider{};                         // the same; "": whoever defines the function
  std::string reach{};                            // "auto" or "", "slots", "entry"
  std::vector<std::string> also{};                // further names of a function that are meant
  [[nodiscard]] bool takes(const std::string &path) const;
};

OfflineReport check_offline(const core::ElfFile &patch, const std::vector<OfflineRequest> &requests,
                            std::vector<core::ElfFile> files, const OfflineOptions &options);

}  // namespace shunt::cli
