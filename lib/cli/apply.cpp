// apply.cpp: shunt apply. The steps over a family: look at everybody, then write everybody, then look whether somebody was
// forked meanwhile. Each process's own part is a transaction of its engine.
#include <algorithm>
#include <optional>

#include "cli/changes.hpp"
#include "cli/family.hpp"
#include "cli/patch_file.hpp"
#include "cli/plan_text.hpp"
#include "cli/target.hpp"

namespace shunt::cli {
namespace {

constexpr int kRounds = 50;  // of looking for children that were forked meanwhile

/// What became of one process.
enum class State {
  planned,   // looked at, not written
  written,   // by us
  had_it,    // it has this very patch, from before or from its parent
  not_sure,  // it did not answer when it was asked to apply
  ended,     // it is gone, or is another program now
};

const char *state_name(State state) {
  switch (state) {
    case State::planned:
      return "planned";
    case State::written:
      return "applied";
    case State::had_it:
      return "had it";
    case State::not_sure:
      return "not sure";
    case State::ended:
      return "ended";
  }
  return "";
}

struct Member {
  Connection connection;
  State state = State::planned;
  Json plan = nullptr;    // the whole answer
  Json answer = nullptr;  // to `apply`
};

/// The patch of a name that is applied, as `status` has it; null when there is none.
Json applied_patch(Connection &connection, const std::string &name) {
  control::Request request;
  request.type = control::Type::status;
  const Json status = connection.ask(request);
  for (const Json &patch : list_of(status, "patches"))
    if (text_of(patch, "name") == name && text_of(patch, "state") == "applied") return patch;
  return nullptr;
}

class Apply {
 public:
  Apply(const ApplyOptions &options, const Console &console)
      : options_(options),
        console_(console),
        patch_(PatchFile::open(options.patch)),
        family_(find_process(options.target), options.only_this ? Scope::only_this : Scope::family) {
    request_.file = patch_.path;
    request_.name = name();
    request_.provider = options.provider;
    request_.callers = options.callers;
    request_.not_callers = options.not_callers;
    request_.reach = options.reach;
    request_.also = options.also;
    request_.dlsym = options.dlsym;
    request_.force_permissions = options.force_permissions;
    request_.keep = options.keep;
  }

  Exit run() {
    request_.symbols = linker_names(options_.symbols, patch_, family_.root_connection());
    const ChangeLock lock(family_.root_connection());
    plan(take_newcomers());
    if (!console_.is_json) show_plan();
    {
      const SignalsWait signals;
      write_all();
      for (int round = 0; round < kRounds; ++round) {
        const std::size_t first = take_newcomers_or_undo();
        if (first == members_.size()) break;
        write_newcomers(first);
      }
    }
    console_.is_json ? console_.print(document()) : show_written();
    return Exit::done;
  }

 private:
  [[nodiscard]] std::string name() const {
    if (!options_.name.empty()) return options_.name;
    const std::string base = patch_.path.substr(patch_.path.rfind('/') + 1);
    const std::size_t end = base.size() > 3 ? base.size() - 3 : 0;
    return end > 0 && base.compare(end, 3, ".so") == 0 ? base.substr(0, end) : base;
  }

  /// Where the new ones begin in the list.
  std::size_t take_newcomers() {
    const std::size_t first = members_.size();
    for (Connection &connection : family_.newcomers()) members_.push_back({std::move(connection)});
    return first;
  }

  // ---- look

  void plan(std::size_t first) {
    std::optional<Failure> taken;
    for (std::size_t k = first; k < members_.size(); ++k) plan_one(members_[k], taken);
    // Whoever has the name must have this very file under it, and then somebody must be left who lacks it.
    const bool is_lacking =
        std::any_of(members_.begin(), members_.end(), [](const Member &one) { return one.state != State::had_it; });
    if (taken && (sha256_.empty() || !is_lacking)) throw Failure(*taken);
    was_partial_ = taken.has_value();
    for (const Member &member : members_)
      if (member.state == State::had_it && text_of(part_of(member.plan, "patch"), "sha256") != sha256_)
        throw taken ? Failure(*taken) : changed_meanwhile(member);
  }

  void plan_one(Member &member, std::optional<Failure> &taken) {
    control::Request request = request_;
    request.type = control::Type::plan;
    try {
      member.plan = member.connection.ask(request, patch_.fd.get());
      if (sha256_.empty()) sha256_ = text_of(part_of(member.plan, "patch"), "sha256");
    } catch (const Refusal &refusal) {
      if (has_ended(member)) {
        member.state = State::ended;
      } else if (refusal.code == "name_taken") {
        member.plan = {{"patch", applied_patch(member.connection, name())}};
        member.state = State::had_it;
        if (!taken) taken = refusal;
      } else {
        throw;
      }
    }
  }

  [[nodiscard]] Failure changed_meanwhile(const Member &member) const {
    return {Exit::no, "name_taken",
            called(member.connection.process()) + " has another patch that is called '" + name() + "'",
            "`shunt revert` it first."};
  }

  [[nodiscard]] bool has_ended(const Member &member) const {
    return member.connection.process().pid != family_.root().pid && !is_still(member.connection.process());
  }

  // ---- write

  void write_all() {
    for (std::size_t k = 0; k < members_.size(); ++k)
      if (members_[k].state == State::planned) write_one(members_[k]);
  }

  void write_one(Member &member) {
    control::Request request = request_;
    request.type = control::Type::apply;
    try {
      member.answer = member.connection.ask(request, patch_.fd.get());
      member.state = State::written;
    } catch (const Refusal &refusal) {
      if (has_ended(member)) {
        member.state = State::ended;
        return;
      }
      if (refusal.answer.is_null()) member.state = State::not_sure;
      undo_and_throw(refusal);
    } catch (const Failure &failure) {  // its answer makes no sense
      member.state = State::not_sure;
      undo_and_throw(failure);
    }
  }

  std::size_t take_newcomers_or_undo() {
    try {
      return take_newcomers();
    } catch (const Failure &failure) {
      undo_and_throw(failure);
    }
  }

  /// Children that were forked after the first look: those of a parent that had the patch have it by themselves.
  void write_newcomers(std::size_t first) {
    try {
      plan_newcomers(first);
    } catch (const Failure &failure) {
      undo_and_throw(failure);
    }
    write_all();
  }

  void plan_newcomers(std::size_t first) {
    std::optional<Failure> taken;
    for (std::size_t k = first; k < members_.size(); ++k) {
      plan_one(members_[k], taken);
      if (members_[k].state == State::had_it && text_of(part_of(members_[k].plan, "patch"), "sha256") != sha256_)
        throw changed_meanwhile(members_[k]);
    }
  }

  // ---- undo

  /// Whatever we wrote is taken out again, and what children of those processes inherited of it.
  [[noreturn]] void undo_and_throw(Failure failure) {
    std::size_t undone = 0;
    std::string left;
    for (Member &member : members_)
      if (member.state == State::written || member.state == State::not_sure) undo(member, undone, left);
    if (!was_partial_) undo_inherited(undone, left);
    if (undone > 0) failure.message += "; so it was reverted in " + counted(undone, "process");
    failure.message += left.empty() ? "; nothing is changed" : "; it could not be reverted in " + left;
    if (failure.exit == Exit::unreachable && !left.empty()) failure.exit = Exit::no;
    throw Failure(failure);
  }

  void undo(Member &member, std::size_t &undone, std::string &left) {
    control::Request request;
    request.type = control::Type::revert;
    request.name = name();
    try {
      if (member.state == State::not_sure) member.connection = Connection::open(member.connection.process(), kGlance);
      member.connection.ask(request);
      ++undone;
    } catch (const Refusal &refusal) {
      if (refusal.code == "unknown_patch" || has_ended(member)) return;
      left += (left.empty() ? "" : ", ") + called(member.connection.process()) + ": " + refusal.message;
    } catch (const Failure &failure) {
      if (!has_ended(member)) left += (left.empty() ? "" : ", ") + failure.message;
    }
  }

  void undo_inherited(std::size_t &undone, std::string &left) {
    try {
      for (std::size_t k = take_newcomers(); k < members_.size(); ++k) undo(members_[k], undone, left);
    } catch (const Failure &failure) {
      left += (left.empty() ? "" : ", ") + failure.message;
    }
  }

  // ---- show

  void show_plan() const {
    const Json *shown = nullptr;
    std::string text;
    for (const Member &member : members_) {
      if (member.state != State::planned) continue;
      const Json &plan = part_of(member.plan, "plan");
      if (shown != nullptr && list_of(plan, "functions") == list_of(*shown, "functions")) continue;
      text += (shown == nullptr ? "The plan" : "The plan for " + called(member.connection.process())) + ":\n" +
              plan_text(plan, console_) + "\n";
      if (shown == nullptr) shown = &plan;
    }
    console_.print(text);
    std::fflush(stdout);
  }

  void show_written() const {
    Table table({{"PID", Column::number},
                 {"NAME"},
                 {""},
                 {"SLOTS", Column::number},
                 {"ENTRIES", Column::number},
                 {"OBJECTS", Column::number},
                 {"TOOK", Column::number}});
    std::size_t count = 0;
    for (const Member &member : members_) {
      const Process &process = member.connection.process();
      const Json &written = part_of(member.answer, "written");
      if (member.state == State::written) {
        ++count;
        table.add({std::to_string(process.pid), process.name, state_name(member.state),
                   std::to_string(number_of(written, "slots")), std::to_string(number_of(written, "entries")),
                   std::to_string(list_of(written, "objects").size()),
                   std::to_string(number_of(written, "microseconds")) + " us"});
      } else {
        table.add({std::to_string(process.pid), process.name, state_name(member.state)});
      }
    }
    console_.print("Applied " + printable(name()) + " in " + counted(count, "process") + ":\n" +
                   table.text(console_.screen));
  }

  [[nodiscard]] Json document() const {
    Json processes = Json::array();
    for (const Member &member : members_) {
      const Process &process = member.connection.process();
      processes.push_back({{"pid", process.pid},
                           {"name", process.name},
                           {"state", state_name(member.state)},
                           {"plan", part_of(member.plan, "plan")},
                           {"written", part_of(member.answer, "written")}});
    }
    Json document = Console::document();
    document["name"] = name();
    document["sha256"] = sha256_;
    document["processes"] = std::move(processes);
    return document;
  }

  const ApplyOptions &options_;
  const Console &console_;
  PatchFile patch_;
  Family family_;
  control::Request request_;
  std::vector<Member> members_;
  std::string sha256_;
  bool was_partial_ = false;  // some had the patch before: what a child inherited may be theirs
};

}  // namespace

Exit run_apply(const ApplyOptions &options, const Console &console) { return Apply(options, console).run(); }

}  // namespace shunt::cli
