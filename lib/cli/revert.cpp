// revert.cpp: shunt revert.
#include <optional>

#include "cli/changes.hpp"
#include "cli/family.hpp"
#include "cli/plan_text.hpp"
#include "cli/target.hpp"

namespace shunt::cli {
namespace {

class Revert {
 public:
  Revert(const RevertOptions &options, const Console &console)
      : options_(options),
        console_(console),
        family_(find_process(options.target), options.only_this ? Scope::only_this : Scope::family) {
    request_.type = control::Type::revert;
    request_.name = options.name;
    request_.all = options.all;
  }

  Exit run() {
    const ChangeLock lock(family_.root_connection());
    const SignalsWait signals;
    // A child that is forked while we work may still have what its parent had then: so look until nobody new is there.
    for (std::vector<Connection> all = family_.newcomers(); !all.empty(); all = family_.newcomers())
      for (Connection &connection : all) revert_in(connection);
    if (!failure_ && rows_.empty() && !options_.all) failure_ = unknown_;
    if (failure_) {
      if (!rows_.empty()) failure_->message += "; it was reverted in " + counted(count_, "process");
      throw Failure(*failure_);
    }
    show();
    return Exit::done;
  }

 private:
  void revert_in(Connection &connection) {
    try {
      take(connection.process(), connection.ask(request_));
    } catch (const Refusal &refusal) {
      if (connection.process().pid != family_.root().pid && !is_still(connection.process())) return;
      take(connection.process(), refusal.answer);
      // Where only some have it (a tool was killed half-way), the others are no failure.
      if (refusal.code == "unknown_patch") {
        if (!unknown_) unknown_ = refusal;
      } else if (!failure_) {
        failure_ = refusal;
      }
    }
  }

  void take(const Process &process, const Json &answer) {
    const Json &reverted = list_of(answer, "reverted");
    if (!reverted.empty()) ++count_;
    for (const Json &one : reverted) {
      Json row = {{"pid", process.pid}, {"process", process.name}};
      row.update(one);
      rows_.push_back(std::move(row));
    }
  }

  void show() const {
    if (console_.is_json) {
      Json document = Console::document();
      document["reverted"] = rows_;
      return console_.print(document);
    }
    if (rows_.empty()) return console_.print("Nothing was applied in " + called(family_.root()) + ".\n");
    Table table(
        {{"PID", Column::number}, {"NAME"}, {"PATCH"}, {"SLOTS", Column::number}, {"CONFLICTS", Column::number}});
    for (const Json &row : rows_)
      table.add({std::to_string(number_of(row, "pid")), text_of(row, "process"), text_of(row, "name"),
                 std::to_string(number_of(row, "slots")), std::to_string(number_of(row, "conflicts"))});
    console_.print("Reverted in " + counted(count_, "process") + ":\n" + table.text(console_.screen));
    for (const Json &row : rows_)
      if (number_of(row, "conflicts") > 0)
        return console_.print("Conflicts are slots that somebody else wrote since; they were left alone.\n");
  }

  const RevertOptions &options_;
  const Console &console_;
  Family family_;
  control::Request request_;
  Json rows_ = Json::array();
  std::size_t count_ = 0;
  std::optional<Failure> failure_, unknown_;
};

}  // namespace

Exit run_revert(const RevertOptions &options, const Console &console) {
  if (options.name.empty() != options.all)
    throw Failure{Exit::usage, "usage", "revert wants the name of a patch, or --all", "`shunt status` lists them."};
  return Revert(options, console).run();
}

}  // namespace shunt::cli
