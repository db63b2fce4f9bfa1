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
    for (std::vector<Connection> all = family_.newcomers(); !all.empty(); all = newcomers_after())
      for (Connection &connection : all) revert_in(connection);
    if (failure_) fail();
    if (rows_.empty() && !options_.all) throw Failure(*unknown_);
    show();
    return Exit::done;
  }

 private:
  /// Those that cannot be reached now may have what was reverted in others.
  std::vector<Connection> newcomers_after() {
    try {
      return family_.newcomers();
    } catch (const Failure &failure) {
      if (!failure_) failure_ = failure;
      return {};
    }
  }

  void revert_in(Connection &connection) {
    const Process &process = connection.process();
    try {
      take(process, connection.ask(request_));
    } catch (const Refusal &refusal) {
      if (process.pid != family_.root().pid && !is_still(process)) return;
      take(process, refusal.answer);
      // Where only some have it (a tool was killed half-way), the others are no failure.
      if (refusal.code == "unknown_patch") {
        if (!unknown_) unknown_ = refusal;
      } else {
        leave(process, refusal);
      }
    } catch (const Failure &failure) {  // its answer makes no sense
      leave(process, failure);
    }
  }

  void leave(const Process &process, const Failure &failure) {
    if (!failure_) failure_ = failure;
    left_.push_back(
        {{"pid", process.pid}, {"process", process.name}, {"code", failure.code}, {"message", failure.message}});
  }

  /// Says what was reverted, who was not, and why.
  [[noreturn]] void fail() {
    if (rows_.empty() && left_.size() < 2) throw Failure(*failure_);
    if (!rows_.empty() && !console_.is_json) show();
    std::string who;
    for (const Json &one : left_)
      who += (who.empty() ? "" : ", ") + std::to_string(number_of(one, "pid")) + " (" + text_of(one, "process") + ")";
    Failure failure = *failure_;
    if (!who.empty())
      failure.message += "; so " + what() + " may still be applied in " + counted(left_.size(), "process") + ": " + who;
    failure.message += "; it was reverted in " + counted(count_, "process");
    if (!rows_.empty()) {
      failure.exit = Exit::no;
      failure.advice += std::string(failure.advice.empty() ? "" : " ") +
                        "The same command, once that is mended, reverts what is left.";
    }
    failure.beside = {{"reverted", rows_}, {"left", left_}};
    throw Failure(failure);
  }

  [[nodiscard]] std::string what() const { return options_.all ? "a patch" : "'" + options_.name + "'"; }

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
  Json left_ = Json::array();  // processes that could not be asked to, or said no
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
