#include "cli/offline.hpp"

#include <algorithm>
#include <set>

#include "base/glob.hpp"

namespace shunt::cli {
namespace {

bool any_matches(const std::vector<std::string> &globs, const std::string &path) {
  const std::string name = path.substr(path.rfind('/') + 1);
  return std::any_of(globs.begin(), globs.end(), [&](const std::string &glob) {
    return core::glob_matches(glob.c_str(), path.c_str()) || core::glob_matches(glob.c_str(), name.c_str());
  });
}

/// The slots that a file has for a symbol, of whichever version.
OfflineCaller slots_in(const core::ElfFile &file, const std::string &symbol) {
  OfflineCaller caller{file.path};
  for (const core::FileImport &import : file.imports) {
    if (import.name != symbol) continue;
    caller.jump_slots += import.jump_slots;
    caller.glob_dats += import.glob_dats;
    caller.absolutes += import.absolutes;
  }
  return caller;
}

bool defines_function(const core::ElfFile &file, const std::string &symbol) {
  return std::any_of(file.exports.begin(), file.exports.end(),
                     [&](const core::FileExport &one) { return one.name == symbol && one.is_function; });
}

OfflineFunction look_at(const OfflineRequest &request, const std::vector<LoadedFile> &files,
                        const CallerFilter &filter) {
  OfflineFunction function{request.symbol, request.replacement, {}, {}, {}};
  for (const auto &[file, was_named] : files) {
    const bool is_defined = defines_function(file, request.symbol);
    const bool is_inner = !is_defined && file.has_inner_function(request.symbol);
    const OfflineCaller caller = slots_in(file, request.symbol);
    const bool has_slots = caller.jump_slots + caller.glob_dats + caller.absolutes > 0;
    if (is_defined && function.provider.empty()) function.provider = file.path;
    if (!filter.takes(file.path)) continue;
    if (has_slots) {
      function.callers.push_back(caller);
    } else if (is_defined) {
      function.unreached.push_back({file.path, "defines it, and its own calls go through no slot", was_named});
    } else if (is_inner) {
      function.unreached.push_back(
          {file.path, "has it inside (not exported): its calls go through no slot", was_named});
    }
  }
  if (!filter.provider.empty() && !function.provider.empty() && !any_matches({filter.provider}, function.provider)) {
    function.callers.clear();
    function.unreached.push_back({"", "defined by " + function.provider + ", which --provider does not name", true});
  }
  if (!function.callers.empty() || function.is_short()) return function;
  const bool is_known = !function.provider.empty() || !function.unreached.empty();
  function.unreached.push_back({"", is_known ? "no file imports it" : "unknown: no file imports or defines it", true});
  return function;
}

/// Versions count where both sides have one.
bool provides(const core::ElfFile &file, const core::FileImport &import) {
  return std::any_of(file.exports.begin(), file.exports.end(), [&](const core::FileExport &one) {
    return one.name == import.name && (one.version == import.version || one.version.empty() || import.version.empty());
  });
}

std::vector<std::string> undefined_in(const core::ElfFile &patch, const std::vector<LoadedFile> &files) {
  std::set<std::string> undefined;
  for (const core::FileImport &import : patch.imports) {
    if (import.is_defined || import.is_weak) continue;
    const bool is_provided =
        std::any_of(files.begin(), files.end(), [&](const LoadedFile &one) { return provides(one.file, import); });
    if (!is_provided) undefined.insert(import.name + (import.version.empty() ? "" : "@" + import.version));
  }
  return {undefined.begin(), undefined.end()};
}

}  // namespace

std::uint32_t OfflineFunction::slots() const {
  std::uint32_t count = 0;
  for (const OfflineCaller &caller : callers) count += caller.jump_slots + caller.glob_dats + caller.absolutes;
  return count;
}

bool OfflineFunction::is_short() const {
  return std::any_of(unreached.begin(), unreached.end(), [](const Unreached &one) { return one.was_named; });
}

bool OfflineReport::is_good() const {
  return undefined.empty() && left_out.empty() && !functions.empty() &&
         std::none_of(functions.begin(), functions.end(), [](const OfflineFunction &one) { return one.is_short(); });
}

bool CallerFilter::takes(const std::string &path) const {
  return (callers.empty() || any_matches(callers, path)) && !any_matches(not_callers, path);
}

std::vector<OfflineRequest> default_requests(const core::ElfFile &patch) {
  std::vector<OfflineRequest> requests;
  for (const core::FileExport &one : patch.exports)
    if (one.is_function && !one.is_weak && one.name != "_init" && one.name != "_fini")
      requests.push_back({one.name, one.name});
  return requests;
}

OfflineReport check_offline(const core::ElfFile &patch, const std::vector<OfflineRequest> &requests,
                            std::vector<core::ElfFile> files, const CallerFilter &filter) {
  OfflineReport report;
  std::vector<core::ElfFile> fitting;
  for (core::ElfFile &file : files) {
    if (file.machine == patch.machine) {
      fitting.push_back(std::move(file));
    } else {
      report.left_out.push_back(
          {file.path, std::string("is for ") + file.machine->name + ", the patch for " + patch.machine->name, true});
    }
  }
  LibrarySet set = with_needed(std::move(fitting));
  for (const OfflineRequest &request : requests) report.functions.push_back(look_at(request, set.files, filter));

  // What the patch itself needs is loaded with it, but no call in there is one of the program.
  const LibrarySet of_patch = with_needed({patch});
  report.missing = set.missing;
  report.missing.insert(report.missing.end(), of_patch.missing.begin(), of_patch.missing.end());
  std::sort(report.missing.begin(), report.missing.end());
  report.missing.erase(std::unique(report.missing.begin(), report.missing.end()), report.missing.end());
  std::vector<LoadedFile> all = std::move(set.files);
  all.insert(all.end(), of_patch.files.begin(), of_patch.files.end());
  report.undefined = undefined_in(patch, all);
  return report;
}

}  // namespace shunt::cli
