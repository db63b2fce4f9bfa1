// offline.hpp: what a patch would reach in programs that nobody runs, as far as their files tell. The dynamic linker and the
// running process know more (dlopen, preloads, lookup scopes): there the answer is a plan.
#pragma once

#include <string>
#include <vector>

#include "cli/libraries.hpp"

namespace shunt::cli {

struct OfflineRequest {
  std::string symbol, replacement;
};

struct OfflineCaller {
  std::string path;
  std::uint32_t jump_slots = 0, glob_dats = 0, absolutes = 0;
};

struct Unreached {
  std::string path;  // "": no file in particular
  std::string reason;
  bool was_named = false;  // a file that the user asked about
};

struct OfflineFunction {
  std::string symbol, replacement;
  std::string provider;  // path; "" where no file defines it
  std::vector<OfflineCaller> callers;
  std::vector<Unreached> unreached;

  [[nodiscard]] std::uint32_t slots() const;
  /// A call that the user asked about goes past the patch.
  [[nodiscard]] bool is_short() const;
};

struct OfflineReport {
  std::vector<OfflineFunction> functions;
  std::vector<std::string> undefined;  // symbols that the patch needs and no file defines
  std::vector<std::string> missing;    // libraries that were not found
  std::vector<Unreached> left_out;     // files that could not take part
  [[nodiscard]] bool is_good() const;
};

/// The functions that a patch replaces where nobody chooses: those that it exports, strong ones.
std::vector<OfflineRequest> default_requests(const core::ElfFile &patch);

struct CallerFilter {
  std::vector<std::string> callers, not_callers;  // globs against the path or the file's name
  std::string provider{};                         // the same; "": whoever defines the function
  [[nodiscard]] bool takes(const std::string &path) const;
};

OfflineReport check_offline(const core::ElfFile &patch, const std::vector<OfflineRequest> &requests,
                            std::vector<core::ElfFile> files, const CallerFilter &filter);

}  // namespace shunt::cli
