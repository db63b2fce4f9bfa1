#include "cli/imports.hpp"

#include <algorithm>
#include <map>

#include "cli/connection.hpp"
#include "cli/entries.hpp"
#include "cli/names.hpp"
#include "cli/plan_text.hpp"
#include "cli/target.hpp"
#include "elf/file.hpp"

namespace shunt::cli {
namespace {

bool is_wanted(const std::vector<std::string> &globs, const std::string &symbol) {
  return globs.empty() ||
         std::any_of(globs.begin(), globs.end(), [&](const std::string &glob) { return name_matches(glob, symbol); });
}

/// "" for none: a column of zeros hides the numbers that matter.
std::string number(std::uint32_t count) { return count == 0 ? "" : std::to_string(count); }

std::string notes(const core::FileImport &import) {
  std::string text = import.is_weak ? "weak" : "";
  if (import.is_data) text += text.empty() ? "data" : ", data";
  if (import.is_defined) text += text.empty() ? "defined here" : ", defined here";
  return text;
}

/// The file's own functions that are asked for by name, static ones too: those that entry redirects reach.
std::vector<OfflineEntry> own_functions(const core::ElfFile &file, const std::vector<std::string> &globs) {
  std::vector<OfflineEntry> entries;
  if (globs.empty()) return entries;
  FileFunctions functions(file);
  std::vector<core::FunctionName> wanted;
  functions.for_each([&](const core::FunctionName &one) {
    if (is_wanted(globs, one.name)) wanted.push_back(one);
  });
  for (const core::FunctionName &one : wanted) entries.push_back(functions.entry_of(one, {}));
  return entries;
}

Json to_json(const core::ElfFile &file, const std::vector<const core::FileImport *> &imports,
             const std::vector<OfflineEntry> &entries) {
  Json rows = Json::array();
  for (const core::FileImport *import : imports)
    rows.push_back({{"symbol", import->name},
                    {"demangled", demangled(import->name)},
                    {"version", import->version},
                    {"library", import->library},
                    {"weak", import->is_weak},
                    {"data", import->is_data},
                    {"defined_here", import->is_defined},
                    {"slots", import->slots()},
                    {"jump_slots", import->jump_slots},
                    {"glob_dats", import->glob_dats},
                    {"absolutes", import->absolutes}});
  Json functions = Json::array();
  for (const OfflineEntry &entry : entries)
    functions.push_back({{"symbol", entry.name},
                         {"demangled", demangled(entry.name)},
                         {"source", entry.source},
                         {"address", hexadecimal(entry.address)},
                         {"size", entry.size},
                         {"form", entry.form},
                         {"why", entry.why},
                         {"names", entry.names}});
  return {{"path", file.path},          {"machine", file.machine->name},    {"soname", file.soname},
          {"build_id", file.build_id},  {"debug_link", file.debug_link},    {"needed", file.needed},
          {"imports", std::move(rows)}, {"functions", std::move(functions)}};
}

std::string to_text(const std::vector<OfflineEntry> &entries, const Console &console) {
  Table table({{"FUNCTION"}, {"SOURCE"}, {"ADDRESS", Column::number}, {"SIZE", Column::number}, {"ENTRY"}});
  for (const OfflineEntry &entry : entries)
    table.add({demangled(entry.name), entry.source, hexadecimal(entry.address), std::to_string(entry.size),
               entry.is_chosen ? entry.form : "no: " + entry.why});
  return table.is_empty() ? "" : "functions of its own\n" + table.text(console.screen);
}

std::string to_text(const core::ElfFile &file, const std::vector<const core::FileImport *> &imports,
                    const std::vector<OfflineEntry> &entries, const Console &console) {
  std::string text = console.paint(Colour::strong, printable(file.path)) + ": " + file.machine->name;
  text += file.build_id.empty() ? ", no build-id" : ", build-id " + file.build_id;
  std::string needed;
  for (const std::string &library : file.needed) needed += (needed.empty() ? "" : ", ") + printable(library);
  text += "\nneeds " + (needed.empty() ? "nothing" : needed) + "\n";
  Table table(
      {{"SYMBOL"}, {"VERSION"}, {"CALL", Column::number}, {"GOT", Column::number}, {"DATA", Column::number}, {""}});
  for (const core::FileImport *import : imports)
    table.add({demangled(import->name), import->version, number(import->jump_slots), number(import->glob_dats),
               number(import->absolutes), notes(*import)});
  text += table.is_empty() ? "no import matches\n" : table.text(console.screen);
  return text + to_text(entries, console);
}

Exit of_files(const ImportsOptions &options, const Console &console) {
  Json files = Json::array();
  std::string text;
  std::size_t found = 0;
  for (const std::string &path : options.targets) {
    const core::ElfFile file = read_elf(path);
    const std::string name = path.substr(path.rfind('/') + 1);
    if (!options.callers.empty() && !is_wanted(options.callers, name) && !is_wanted(options.callers, path)) continue;
    std::vector<const core::FileImport *> imports;
    for (const core::FileImport &import : file.imports)
      if (is_wanted(options.symbols, import.name)) imports.push_back(&import);
    std::sort(imports.begin(), imports.end(), [](const auto *a, const auto *b) { return a->name < b->name; });
    const std::vector<OfflineEntry> entries = own_functions(file, options.symbols);
    found += imports.size() + entries.size();
    files.push_back(to_json(file, imports, entries));
    if (!text.empty()) text += "\n";
    text += to_text(file, imports, entries, console);
  }
  if (console.is_json) {
    Json document = Console::document();
    document["files"] = std::move(files);
    console.print(document);
  } else {
    console.print(text.empty() ? "no file matches --caller\n" : text);
  }
  return found > 0 ? Exit::done : Exit::no;
}

/// Words of C++ are matched here, so the process is asked for all names of C++ as well.
std::vector<std::string> globs_for_server(const std::vector<std::string> &globs) {
  std::vector<std::string> all = globs;
  if (!all.empty()) all.emplace_back("_Z*");
  return all;
}

Exit of_process(const ImportsOptions &options, const Console &console) {
  Connection connection = Connection::open(find_process(options.targets.front()));
  control::Request request;
  request.type = control::Type::imports;
  request.symbols = globs_for_server(options.symbols);
  request.callers = options.callers;
  Json answer = connection.ask(request);
  Table table(
      {{"SYMBOL"}, {"VERSION"}, {"SLOTS", Column::number}, {"CALLER", Column::path}, {"LEADS TO", Column::path}, {""}});
  Json objects = Json::array();
  for (const Json &object : list_of(answer, "objects")) {
    Json imports = Json::array();
    for (Json import : list_of(object, "imports")) {
      const std::string symbol = text_of(import, "symbol"), state = text_of(import, "state");
      if (!is_wanted(options.symbols, symbol)) continue;
      import["demangled"] = demangled(symbol);
      table.add({demangled(symbol), text_of(import, "version"), std::to_string(number_of(import, "slots")),
                 text_of(object, "object"), text_of(import, "leads_to"), state == "bound" ? "" : state});
      imports.push_back(std::move(import));
    }
    if (imports.empty()) continue;
    objects.push_back(object);
    objects.back()["imports"] = std::move(imports);
  }
  if (console.is_json) {
    answer["objects"] = std::move(objects);
    console.print(answer);
  } else {
    console.print(table.is_empty() ? "no import matches\n" : table.text(console.screen));
  }
  return table.is_empty() ? Exit::no : Exit::done;
}

}  // namespace

Exit run_imports(const ImportsOptions &options, const Console &console) {
  const bool has_process =
      std::any_of(options.targets.begin(), options.targets.end(), [](const std::string &one) { return !is_file(one); });
  if (!has_process) return of_files(options, console);
  if (options.targets.size() > 1)
    throw Failure{Exit::usage, "usage", "imports wants one process, or files, not both", ""};
  return of_process(options, console);
}

}  // namespace shunt::cli
