#include "cli/status.hpp"

#include <pwd.h>
#include <unistd.h>

#include <optional>
#include <set>

#include "cli/family.hpp"
#include "cli/names.hpp"
#include "cli/plan_text.hpp"
#include "cli/target.hpp"

namespace shunt::cli {
namespace {

struct Row {
  Process process;
  Json status;
};

/// What must be the same in all processes of a family: which patches are applied, and to what.
Json essence(const Json &status) {
  std::set<std::string> patches;
  for (const Json &patch : list_of(status, "patches"))
    if (text_of(patch, "state") == "applied")
      patches.insert(text_of(patch, "name") + " " + text_of(patch, "sha256") + " " +
                     std::to_string(number_of(patch, "slots")));
  return patches;
}

std::string user_name(std::uint64_t uid) {
  const passwd *user = getpwuid(static_cast<uid_t>(uid));
  return user != nullptr ? user->pw_name : std::to_string(uid);
}

std::string made_by(const Json &by) {
  const std::string how = text_of(by, "how");
  if (how != "control") return how;
  return user_name(number_of(by, "uid")) + " with shunt, pid " + std::to_string(number_of(by, "pid"));
}

std::string layer_text(const Json &one) {
  const std::uint64_t layer = number_of(one, "layer"), layers = number_of(one, "layers");
  return layers > 1 ? ", layer " + std::to_string(layer) + " of " + std::to_string(layers) : "";
}

std::string patch_text(const Json &patch, const Console &console) {
  const bool is_applied = text_of(patch, "state") == "applied";
  const Json &by = part_of(patch, is_applied ? "by" : "reverted_by");
  std::string text = console.paint(is_applied ? Colour::good : Colour::faint, printable(text_of(patch, "name"))) +
                     ": " + (is_applied ? "applied " : "reverted ") +
                     printable(text_of(patch, is_applied ? "applied_at" : "reverted_at")) + " by " +
                     printable(made_by(by)) + "\n";
  if (!is_applied) {
    const Json &code = part_of(patch, "code");
    return code.is_object() && text_of(code, "state") != "in_place"
               ? text + "  " + printable(text_of(code, "text")) + "\n"
               : text;
  }
  const std::string build_id = text_of(patch, "build_id");
  text += "  file      " + printable(text_of(patch, "file")) + "\n";
  text += "  build-id  " + (build_id.empty() ? "none" : printable(build_id)) + "\n";
  text += "  sha256    " + printable(text_of(patch, "sha256")) + "\n";
  for (const Json &function : list_of(patch, "functions"))
    text += "  " + printable(demangled(text_of(function, "symbol"))) + ": " +
            counted(number_of(function, "slots"), "slot") + (function.value("entry", false) ? " and its entry" : "") +
            (function.value("dlsym", false) ? ", in dlsym() too" : "") + ", defined by " +
            printable(text_of(function, "provider")) + layer_text(function) + "\n";
  for (const Json &object : list_of(patch, "objects"))
    text +=
        "    in " + printable(text_of(object, "object")) + ": " + counted(number_of(object, "slots"), "slot") + "\n";
  if (const std::uint64_t conflicts = number_of(patch, "conflicts"); conflicts > 0)
    text += "  " + console.paint(Colour::bad, counted(conflicts, "conflict")) +
            ": slots or entries that somebody else wrote since\n";
  return text;
}

std::string redirect_text(const Json &redirect) {
  if (redirect.value("own", false))
    return printable(text_of(redirect, "symbol")) + ": led to shunt, which answers with replacements where that was " +
           "asked for, " + counted(number_of(redirect, "slots"), "slot") + layer_text(redirect) + "\n";
  return printable(demangled(text_of(redirect, "symbol"))) + ": redirected by the program itself to code in " +
         printable(text_of(redirect, "replacement_in")) + ", " + counted(number_of(redirect, "slots"), "slot") +
         (redirect.value("entry", false) ? " and its entry" : "") +
         (redirect.value("dlsym", false) ? ", in dlsym() too" : "") + layer_text(redirect) + "\n";
}

std::string verified_text(const Json &verified, const Console &console) {
  const Json &conflicts = list_of(verified, "conflicts");
  if (conflicts.empty())
    return console.paint(Colour::good, "verified") + ": " + counted(number_of(verified, "slots"), "slot") +
           " read again, each holds what was written\n";
  std::string text;
  for (const Json &one : conflicts)
    text += console.paint(Colour::bad, "conflict") + ": " + printable(text_of(one, "object")) + ", " +
            printable(demangled(text_of(one, "symbol"))) +
            (one.value("entry", false) ? ": the entry at " : ": the slot at ") + printable(text_of(one, "address")) +
            " holds " + printable(text_of(one, "found")) + " (" + printable(text_of(one, "found_in")) + "), not " +
            printable(text_of(one, "expected")) + "\n";
  return text;
}

std::string later_text(const Json &later) {
  const std::uint64_t others = number_of(later, "other_namespaces");
  return std::string("objects loaded later are redirected ") +
         (later.value("watched", false) ? "before their constructors run" : "when shunt is asked next") +
         (others > 0 ? "; those of " + counted(others, "other namespace") + " (dlmopen) are not" : "") + "\n";
}

std::string status_text(const Json &status, const Console &console) {
  std::string text;
  for (const Json &patch : list_of(status, "patches")) text += patch_text(patch, console);
  for (const Json &redirect : list_of(status, "redirects")) text += redirect_text(redirect);
  const bool is_anything_applied = !text.empty();
  if (!is_anything_applied) text = "nothing is applied\n";
  if (const Json &verified = part_of(status, "verified"); verified.is_object())
    text += verified_text(verified, console);
  if (is_anything_applied) text += later_text(part_of(status, "later_objects"));
  const Json &counters = part_of(status, "counters");
  text += std::to_string(number_of(counters, "applied")) + " applied, " +
          std::to_string(number_of(counters, "reverted")) + " reverted, " +
          std::to_string(number_of(counters, "refused")) + " refused since the start\n";
  return text;
}

std::vector<Row> ask_family(const StatusOptions &options) {
  Family family(find_process(options.target), options.only_this ? Scope::only_this : Scope::family);
  control::Request request;
  request.type = control::Type::status;
  request.verify = options.verify;
  std::vector<Row> rows;
  for (Connection &connection : family.newcomers()) {
    try {
      rows.push_back({connection.process(), connection.ask(request)});
    } catch (const Refusal &refusal) {
      if (connection.process().pid == family.root().pid || is_still(connection.process())) throw;
    }
  }
  return rows;
}

Json to_json(const std::vector<Row> &rows, bool differ) {
  Json processes = Json::array();
  for (const Row &row : rows)
    processes.push_back({{"pid", row.process.pid}, {"name", row.process.name}, {"status", row.status}});
  Json document = Console::document();
  document["differ"] = differ;
  document["processes"] = std::move(processes);
  return document;
}

std::string to_text(const std::vector<Row> &rows, bool differ, const Console &console) {
  std::string text;
  for (const Row &row : rows) {
    if (&row != &rows.front() && !differ) break;
    const std::size_t same = differ ? 0 : rows.size() - 1;
    const std::string others =
        same == 0 ? "" : ", and the same in " + std::to_string(same) + " forked child" + (same > 1 ? "ren" : "");
    text += (text.empty() ? "" : "\n") + console.paint(Colour::strong, printable(called(row.process))) + others + "\n";
    text += status_text(row.status, console);
  }
  if (differ) text += "\nThe processes differ.\n";
  return text;
}

}  // namespace

Exit run_status(const StatusOptions &options, const Console &console) {
  const std::vector<Row> rows = ask_family(options);
  bool differ = false, has_conflicts = false;
  for (const Row &row : rows) {
    differ |= essence(row.status) != essence(rows.front().status);
    has_conflicts |= !list_of(part_of(row.status, "verified"), "conflicts").empty();
  }
  // Where one process has slots that changed, say which one.
  if (console.is_json) {
    console.print(to_json(rows, differ));
  } else {
    console.print(to_text(rows, differ || (has_conflicts && rows.size() > 1), console));
  }
  return options.verify && (differ || has_conflicts) ? Exit::no : Exit::done;
}

Exit run_ps(const Console &console) {
  Table table({{"PID", Column::number}, {"USER"}, {"NAME"}, {"PATCHES"}, {"PROGRAM", Column::path}});
  Json processes = Json::array();
  for (const Process &process : all_processes()) {
    if (process.is_dead || listening_paths(process.pid).empty()) continue;
    Json patches = nullptr, socket = nullptr, error = nullptr;
    std::string shown;
    try {
      Connection connection = Connection::open(process, kGlance);  // one that does not answer must not hide the others
      socket = connection.socket();
      control::Request request;
      request.type = control::Type::status;
      const Json status = connection.ask(request);
      patches = Json::array();
      for (const Json &patch : list_of(status, "patches"))
        if (text_of(patch, "state") == "applied") {
          patches.push_back(text_of(patch, "name"));
          shown += (shown.empty() ? "" : ", ") + text_of(patch, "name");
        }
    } catch (const Failure &failure) {
      error = failure.message;
    }
    if (error.is_string()) shown = "(does not answer)";
    table.add({std::to_string(process.pid), user_name(process.uid), process.name, shown.empty() ? "-" : shown,
               process.program});
    processes.push_back({{"pid", process.pid},
                         {"uid", process.uid},
                         {"name", process.name},
                         {"program", process.program},
                         {"socket", socket},
                         {"patches", patches},
                         {"error", error}});
  }
  const bool is_empty = table.is_empty();
  if (console.is_json) {
    Json document = Console::document();
    document["processes"] = std::move(processes);
    console.print(document);
  } else if (is_empty) {
    Console::complain(std::string("no process with shunt in it was found") +
                      (geteuid() == 0 ? "" : " among those that this user may look into"));
  } else {
    console.print(table.text(console.screen));
  }
  return is_empty ? Exit::no : Exit::done;
}

}  // namespace shunt::cli
