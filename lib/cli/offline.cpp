#include "cli/offline.hpp"

#include <algorithm>
#include <map>
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

/// "3 copies of it inlined, at rules.cpp:12, rules.cpp:19"
std::string inlined_text(const InlinedCopies &copies) {
  constexpr std::size_t kShown = 4;
  std::string text = std::to_string(copies.count) + (copies.count == 1 ? " copy" : " copies") + " of it inlined";
  for (std::size_t k = 0; k < std::min(copies.sites.size(), kShown); ++k)
    text += (k == 0 ? ", at " : ", ") + copies.sites[k];
  const std::size_t left = copies.sites.size() - std::min(copies.sites.size(), kShown);
  return left > 0 ? text + " and " + std::to_string(left) + " more places" : text;
}

/// Looks at one set of files, for one request after the other.
class Look {
 public:
  Look(const std::vector<LoadedFile> &files, const OfflineOptions &options) : files_(files), options_(options) {}

  OfflineFunction at(const OfflineRequest &request) {
    OfflineFunction function{request.symbol, request.replacement, {}, {}, {}, {}, {}};
    find_slots(function);
    if (options_.reach != "slots") decide_entry(function);
    tell_unreached(function);
    return function;
  }

 private:
  void find_slots(OfflineFunction &function) const {
    for (const LoadedFile &one : files_) {
      if (function.provider.empty() && defines_function(one.file, function.symbol)) function.provider = one.file.path;
      const OfflineCaller caller = slots_in(one.file, function.symbol);
      if (caller.slots() > 0 && options_.takes(one.file.path) && options_.reach != "entry")
        function.callers.push_back(caller);
    }
    if (is_provider_wrong(function)) function.callers.clear();
  }

  [[nodiscard]] bool is_provider_wrong(const OfflineFunction &function) const {
    return !options_.provider.empty() && !function.provider.empty() &&
           !any_matches({options_.provider}, function.provider);
  }

  // ---- the entry: as the engine chooses in a process

  void decide_entry(OfflineFunction &function) {
    if (is_provider_wrong(function)) return;
    std::vector<std::pair<FileFunctions *, core::FunctionName>> found;
    for (const LoadedFile &one : files_) {
      const bool is_asked = function.provider.empty()
                                ? options_.provider.empty() || any_matches({options_.provider}, one.file.path)
                                : one.file.path == function.provider;
      if (!is_asked || (function.provider.empty() && !function.callers.empty())) continue;
      FileFunctions &functions = functions_of(one.file);
      if (!functions.unreadable().empty() && !function.provider.empty())
        function.entry = refused(one.file.path, functions.unreadable());
      for (const core::FunctionName &name : functions.named(function.symbol))
        if (function.provider.empty() || name.is_exported) found.emplace_back(&functions, name);
    }
    if (found.empty()) return;
    FileFunctions *const functions = found.front().first;
    const core::FunctionName &name = found.front().second;
    const auto is_other = [&](const auto &one) { return one.first != functions || one.second.address != name.address; };
    if (std::any_of(found.begin(), found.end(), is_other)) {
      function.entry = refused("", "is the name of several functions (choose FILE:NAME):" + list_of(found));
      return;
    }
    if (function.provider.empty()) function.provider = functions->path();
    function.entry = functions->entry_of(name, options_.also);
    choose(function, *functions, name.address);
  }

  /// Whether an entry that could be redirected would be.
  void choose(OfflineFunction &function, FileFunctions &functions, std::uintptr_t address) const {
    OfflineEntry &entry = *function.entry;
    const bool is_for_some = !options_.callers.empty() || !options_.not_callers.empty();
    const bool is_needed = options_.reach == "entry" || function.callers.empty() || functions.is_called_inside(address);
    if (is_for_some) {
      entry.why = "is not redirected for some of its calls only";
    } else if (!is_needed) {
      entry.why = "nothing in " + function.provider + " calls it itself";
      entry.is_needed = false;
    } else if (entry.is_chosen) {
      entry.why = options_.reach == "entry"  ? "that was asked for"
                  : function.callers.empty() ? "nobody calls it through a slot"
                                             : function.provider + " calls it directly or takes its address";
    }
    entry.is_chosen = entry.is_chosen && is_needed && !is_for_some;
  }

  static OfflineEntry refused(const std::string &path, std::string why) {
    OfflineEntry entry;
    entry.path = path;
    entry.why = std::move(why);
    return entry;
  }

  static std::string list_of(const std::vector<std::pair<FileFunctions *, core::FunctionName>> &found) {
    constexpr std::size_t kShown = 6;
    std::string text;
    for (std::size_t k = 0; k < std::min(found.size(), kShown); ++k) {
      const auto &[functions, name] = found[k];
      text += (k > 0 ? ", " : " ") + std::string(name.source) + (*name.source != '\0' ? ":" : "") + name.name + " in " +
              functions->path();
    }
    return found.size() > kShown ? text + " and others" : text;
  }

  FileFunctions &functions_of(const core::ElfFile &file) {
    std::unique_ptr<FileFunctions> &known = functions_[file.path];
    if (known == nullptr) known = std::make_unique<FileFunctions>(file);
    return *known;
  }

  // ---- what is left

  void tell_unreached(OfflineFunction &function) {
    if (is_provider_wrong(function))
      function.unreached.push_back({"", "defined by " + function.provider + ", which --provider does not name", true});
    const bool is_entry_good = function.entry && (function.entry->is_chosen || !function.entry->is_needed);
    const std::string no_entry =
        function.entry && !function.entry->is_chosen ? "; no entry: it " + function.entry->why : "";
    bool is_known = !function.provider.empty();
    for (const auto &[file, was_named] : files_) {
      const bool is_provider = file.path == function.provider;
      const bool is_defined = defines_function(file, function.symbol);
      const bool is_inner = !is_defined && (file.has_inner_function(function.symbol) || is_provider);
      is_known = is_known || is_inner;
      if (!options_.takes(file.path) || slots_in(file, function.symbol).slots() > 0 || (is_provider && is_entry_good))
        continue;
      const std::string reason = is_defined ? "defines it, and its own calls go through no slot"
                                            : "has it inside (not exported): its calls go through no slot";
      if (is_defined || is_inner)
        function.unreached.push_back({file.path, reason + (is_provider || !is_defined ? no_entry : ""), was_named});
      tell_clones(function, file, was_named);
    }
    if (function.is_reached() || function.is_short()) return;
    function.unreached.push_back(
        {"", is_known ? "no file imports it" + no_entry : "unknown: no file imports or defines it" + unknown_names(),
         true});
  }

  /// A call of such a copy is a call of the function, as it was written.
  void tell_clones(OfflineFunction &function, const core::ElfFile &file, bool was_named) {
    if (!was_named) return;
    std::string names;
    for (const core::FunctionName &one : functions_of(file).clones_of(function.symbol))
      names += (names.empty() ? "" : ", ") + std::string(one.name);
    if (!names.empty())
      function.unreached.push_back({file.path, "has copies of it with another signature: " + names, was_named});
  }

  /// Whose static functions nobody can know.
  std::string unknown_names() {
    std::string text;
    for (const LoadedFile &one : files_) {
      const FileFunctions &functions = functions_of(one.file);
      if (one.was_named && functions.unreadable().empty() && !functions.has_all_names())
        text += "; of " + one.file.path + " there is " + functions.names_from();
    }
    return text;
  }

  const std::vector<LoadedFile> &files_;
  const OfflineOptions &options_;
  std::map<std::string, std::unique_ptr<FileFunctions>> functions_;
};

/// Copies that were put into callers, in the files that were named and in those whose entries are chosen.
void find_inlined_copies(OfflineReport &report, const std::vector<LoadedFile> &files, const OfflineOptions &options) {
  std::vector<std::string> symbols;
  for (const OfflineFunction &function : report.functions) symbols.push_back(function.symbol);
  for (const auto &[file, was_named] : files) {
    const bool has_entry = std::any_of(
        report.functions.begin(), report.functions.end(),
        [&path = file.path](const OfflineFunction &one) { return one.is_reached() && one.provider == path; });
    if (!options.takes(file.path) || (!was_named && !has_entry)) continue;
    std::map<std::string, InlinedCopies> found;
    std::string why;
    if (!find_inlined_in(file.path, symbols, found, why)) report.unknown.push_back({file.path, why, was_named});
    for (OfflineFunction &function : report.functions) {
      const auto copies = found.find(function.symbol);
      if (copies == found.end()) continue;
      function.inlined.push_back({file.path, copies->second});
      function.unreached.push_back({file.path, "has " + inlined_text(copies->second), was_named});
    }
  }
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
  for (const OfflineCaller &caller : callers) count += caller.slots();
  return count;
}

bool OfflineFunction::is_short() const {
  return std::any_of(unreached.begin(), unreached.end(), [](const Unreached &one) { return one.was_named; });
}

bool OfflineReport::is_good() const {
  return undefined.empty() && left_out.empty() && !functions.empty() &&
         std::none_of(functions.begin(), functions.end(), [](const OfflineFunction &one) { return one.is_short(); });
}

bool OfflineOptions::takes(const std::string &path) const {
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
                            std::vector<core::ElfFile> files, const OfflineOptions &options) {
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
  Look look(set.files, options);
  for (const OfflineRequest &request : requests) report.functions.push_back(look.at(request));
  find_inlined_copies(report, set.files, options);

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
