#include "cli/check.hpp"

#include <algorithm>

#include "base/glob.hpp"
#include "cli/names.hpp"
#include "cli/offline.hpp"
#include "cli/patch_file.hpp"
#include "cli/plan_text.hpp"
#include "cli/target.hpp"

namespace shunt::cli {
namespace {

std::vector<std::string> exported_functions(const core::ElfFile &patch) {
  std::vector<std::string> names;
  for (const core::FileExport &one : patch.exports)
    if (one.is_function) names.push_back(one.name);
  return names;
}

/// `--symbol` as the user wrote it against what the patch exports.
std::vector<OfflineRequest> requests_of(const core::ElfFile &patch, const std::vector<std::string> &symbols) {
  if (symbols.empty()) return default_requests(patch);
  std::vector<OfflineRequest> requests;
  for (const std::string &word : symbols) {
    const auto [symbol, replacement] = split_symbol(word, exported_functions(patch), patch.path);
    requests.push_back({symbol, replacement});
  }
  return requests;
}

Json to_json(const OfflineEntry &entry) {
  return {{"chosen", entry.is_chosen}, {"address", hexadecimal(entry.address)},
          {"form", entry.form},        {"why", entry.why},
          {"names", entry.names},      {"names_from", entry.names_from},
          {"path", entry.path},        {"source", entry.source},
          {"size", entry.size},        {"cold_parts", entry.cold_parts},
          {"clones", entry.clones}};
}

Json to_json(const std::vector<InlinedIn> &inlined) {
  Json rows = Json::array();
  for (const auto &[path, copies] : inlined)
    rows.push_back({{"path", path}, {"count", copies.count}, {"sites", copies.sites}});
  return rows;
}

Json to_json(const OfflineReport &report, const core::ElfFile &patch) {
  const auto unreached = [](const std::vector<Unreached> &list) {
    Json rows = Json::array();
    for (const Unreached &one : list)
      rows.push_back({{"path", one.path}, {"reason", one.reason}, {"fails_check", one.was_named}});
    return rows;
  };
  Json functions = Json::array();
  for (const OfflineFunction &function : report.functions) {
    Json callers = Json::array();
    for (const OfflineCaller &caller : function.callers)
      callers.push_back({{"path", caller.path},
                         {"slots", caller.slots()},
                         {"jump_slots", caller.jump_slots},
                         {"glob_dats", caller.glob_dats},
                         {"absolutes", caller.absolutes}});
    functions.push_back({{"symbol", function.symbol},
                         {"demangled", demangled(function.symbol)},
                         {"replacement", function.replacement},
                         {"provider", function.provider},
                         {"slots", function.slots()},
                         {"callers", std::move(callers)},
                         {"entry", function.entry ? to_json(*function.entry) : Json()},
                         {"inlined", to_json(function.inlined)},
                         {"unreached", unreached(function.unreached)}});
  }
  Json document = Console::document();
  document["reachable"] = report.is_good();
  document["patch"] = {{"path", patch.path}, {"machine", patch.machine->name}, {"build_id", patch.build_id}};
  document["functions"] = std::move(functions);
  document["undefined_symbols"] = report.undefined;
  document["libraries_not_found"] = report.missing;
  document["left_out"] = unreached(report.left_out);
  document["inlined_unknown"] = unreached(report.unknown);
  return document;
}

/// "3 call, 1 data" without what there is none of.
std::string kinds_of(const OfflineCaller &caller) {
  std::string text;
  const auto add = [&](std::uint32_t count, const char *kind) {
    if (count > 0) text += (text.empty() ? "" : ", ") + std::to_string(count) + " " + kind;
  };
  add(caller.jump_slots, "call");
  add(caller.glob_dats, "got");
  add(caller.absolutes, "data");
  return text;
}

std::string to_text(const OfflineEntry &entry) {
  std::string text;
  if (entry.is_chosen)
    text += "  entry: jump at " + hexadecimal(entry.address) + ", since " + printable(entry.why) + "\n";
  if (!entry.is_needed) text += "  slots only: " + printable(entry.why) + "\n";
  if (!entry.is_chosen) return text;
  if (entry.names.size() > 1) {
    std::string names;
    for (const std::string &name : entry.names) names += (names.empty() ? "" : ", ") + printable(demangled(name));
    text += "  all names of this code: " + names + "\n";
  }
  if (entry.cold_parts > 0)
    text += "  split by the compiler: " + counted(entry.cold_parts, "part") + " of it, rarely run, elsewhere\n";
  return text;
}

std::string to_text(const OfflineReport &report, const core::ElfFile &patch, const Console &console) {
  std::string text = console.paint(Colour::strong, printable(patch.path)) + ": " + patch.machine->name + ", replaces " +
                     counted(report.functions.size(), "function") + "\n";
  for (const OfflineFunction &function : report.functions) {
    const Colour colour = function.is_reached() ? Colour::good : Colour::bad;
    text += console.paint(colour, printable(demangled(function.symbol))) + ": " + counted(function.slots(), "slot") +
            " in " + counted(function.callers.size(), "file");
    text += function.provider.empty() ? "\n" : ", defined by " + printable(function.provider) + "\n";
    for (const OfflineCaller &caller : function.callers)
      text += "  " + printable(caller.path) + ": " + kinds_of(caller) + "\n";
    if (function.entry) text += to_text(*function.entry);
    for (const Unreached &one : function.unreached)
      text += "  not reached: " + printable(one.path.empty() ? one.reason : one.path + " " + one.reason) + "\n";
  }
  for (const Unreached &one : report.left_out)
    text += "not looked at: " + printable(one.path + " " + one.reason) + "\n";
  for (const Unreached &one : report.unknown)
    text += "inlined copies cannot be told: " + printable(one.path + " " + one.reason) + "\n";
  if (!report.undefined.empty()) {
    text += console.paint(Colour::bad, "would not load") + ": nothing here defines";
    for (const std::string &symbol : report.undefined) text += " " + printable(demangled(symbol));
    text += "\n";
  }
  for (const std::string &library : report.missing) text += "library not found: " + printable(library) + "\n";
  return text;
}

/// Nothing to compare with: can the patch be loaded at all, and what does it replace?
Exit of_patch_alone(const core::ElfFile &patch, const std::vector<OfflineRequest> &requests, const Console &console) {
  OfflineReport report = check_offline(patch, {}, {}, {});
  for (const OfflineRequest &request : requests)
    report.functions.push_back({request.symbol, request.replacement, {}, {}, {}, {}, {}});
  if (console.is_json) {
    console.print(to_json(report, patch));
  } else {
    std::string text = console.paint(Colour::strong, printable(patch.path)) + ": " + patch.machine->name +
                       ", replaces " + counted(requests.size(), "function") + "\n";
    for (const OfflineRequest &request : requests) text += "  " + printable(demangled(request.symbol)) + "\n";
    // A patch may use what the program has: that is no fault until there is a program to look at.
    for (const std::string &symbol : report.undefined)
      text += "needs from the program: " + printable(demangled(symbol)) + "\n";
    console.print(text);
  }
  return Exit::done;
}

Exit of_files(const CheckOptions &options, const core::ElfFile &patch, const std::vector<OfflineRequest> &requests,
              const Console &console) {
  std::vector<core::ElfFile> files;
  for (const std::string &target : options.targets) files.push_back(read_elf(target));
  const OfflineReport report =
      check_offline(patch, requests, std::move(files),
                    {options.callers, options.not_callers, options.provider, options.reach, options.also});
  console.is_json ? console.print(to_json(report, patch)) : console.print(to_text(report, patch, console));
  return report.is_good() ? Exit::done : Exit::no;
}

Exit of_process(const CheckOptions &options, const Console &console) {
  const PatchFile patch = PatchFile::open(options.patch);
  Connection connection = Connection::open(find_process(options.targets.front()));
  control::Request request;
  request.type = control::Type::plan;
  request.file = patch.path;
  request.symbols = linker_names(options.symbols, patch, connection);
  request.callers = options.callers;
  request.not_callers = options.not_callers;
  request.provider = options.provider;
  request.reach = options.reach;
  request.also = options.also;
  request.dlsym = options.dlsym;
  request.force_permissions = true;  // only looked at: whose file it is matters when it is applied
  Json answer = connection.ask(request, patch.fd.get());
  const bool is_short = is_plan_short(part_of(answer, "plan"));
  if (console.is_json) {
    answer["reachable"] = !is_short;
    console.print(answer);
  } else {
    console.print(plan_text(part_of(answer, "plan"), console));
  }
  return is_short ? Exit::no : Exit::done;
}

}  // namespace

Exit run_check(const CheckOptions &options, const Console &console) {
  const bool has_process =
      std::any_of(options.targets.begin(), options.targets.end(), [](const std::string &one) { return !is_file(one); });
  if (has_process && options.targets.size() > 1)
    throw Failure{Exit::usage, "usage", "check wants one process, or files, not both", ""};
  if (has_process) return of_process(options, console);
  const core::ElfFile patch = read_elf(options.patch);
  const std::vector<OfflineRequest> requests = requests_of(patch, options.symbols);
  if (requests.empty())
    throw Failure{Exit::no, core::code_name(core::Code::patch_no_exports),
                  options.patch + " exports no strong function: it replaces nothing",
                  "Inline functions and templates are taken only by name: --symbol NAME."};
  if (options.targets.empty()) return of_patch_alone(patch, requests, console);
  return of_files(options, patch, requests, console);
}

}  // namespace shunt::cli
