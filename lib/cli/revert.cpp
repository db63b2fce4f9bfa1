// revert.cpp: shunt revert.
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "cli/changes.hpp"
#include "cli/family.hpp"
#include "cli/plan_text.hpp"
#include "cli/target.hpp"

namespace shunt::cli {
namespace {

constexpr int kLookMilliseconds = 50;

class Revert {
 public:
  Revert(const RevertOptions &options, const Console &console)
      : options_(options),
        console_(console),
        family_(find_process(options.target), options.only_this ? Scope::only_this : Scope::family) {
    request_.type = control::Type::revert;
    request_.name = options.name;
    request_.all = options.all;
    request_.keep = options.keep;
  }

  Exit run() {
    {
      const ChangeLock lock(family_.root_connection());
      const SignalsWait signals;
      // A child that is forked while we work may still have what its parent had then: so look until nobody new is there.
      for (std::vector<Connection> all = family_.newcomers(); !all.empty(); all = newcomers_after())
        for (Connection &connection : all) revert_in(connection);
    }
    if (!failure_) wait_for_code();
    if (failure_) fail();
    if (rows_.empty() && !options_.all) throw Failure(*unknown_);
    show();
    return options_.wait_seconds > 0 && is_draining(rows_) ? Exit::no : Exit::done;
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
      draining_.push_back(std::move(connection));
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

  // ---- the code of what was reverted

  static bool is_draining(const Json &rows) {
    return std::any_of(rows.begin(), rows.end(),
                       [](const Json &row) { return text_of(part_of(row, "code"), "state") == "draining"; });
  }

  void wait_for_code() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(options_.wait_seconds);
    while (is_draining(rows_) && std::chrono::steady_clock::now() < end) {
      poll(nullptr, 0, kLookMilliseconds);
      for (Connection &connection : draining_) look_at_code(connection);
    }
  }

  /// What has become of the code in one process. Where the process is gone, so is the code.
  void look_at_code(Connection &connection) {
    control::Request request;
    request.type = control::Type::status;
    Json status;
    try {
      status = connection.ask(request);
    } catch (const Failure &) {
      if (is_still(connection.process())) throw;
    }
    for (Json &row : rows_) {
      if (number_of(row, "pid") != static_cast<std::uint64_t>(connection.process().pid)) continue;
      if (status.is_null())
        row["code"] = {
            {"state", "unloaded"}, {"why", ""}, {"threads", Json::array()}, {"text", "the process has ended"}};
      for (const Json &patch : list_of(status, "patches"))
        if (number_of(patch, "id") == number_of(row, "id")) row["code"] = part_of(patch, "code");
    }
  }

  /// "4711 nginx: fix is reverted, still draining: threads 12, 40 (asleep in epoll_wait)", where there is more to say than that
  /// its code is unloaded.
  [[nodiscard]] std::string code_text() const {
    std::string text;
    for (const Json &row : rows_) {
      const Json &code = part_of(row, "code");
      if (!code.is_object() || text_of(code, "state") == "unloaded") continue;
      text += std::to_string(number_of(row, "pid")) + " " + printable(text_of(row, "process")) + ": " +
              printable(text_of(row, "name")) + " is reverted, " + printable(text_of(code, "text")) + "\n";
    }
    return text;
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
    if (const std::string text = code_text(); !text.empty()) console_.print(text);
    for (const Json &row : rows_)
      if (number_of(row, "conflicts") > 0)
        return console_.print("Conflicts are slots that somebody else wrote since; they were left alone.\n");
  }

  const RevertOptions &options_;
  const Console &console_;
  Family family_;
  control::Request request_;
  Json rows_ = Json::array();
  Json left_ = Json::array();         // processes that could not be asked to, or said no
  std::vector<Connection> draining_;  // to processes where something was reverted
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
