#include "patch/registry.hpp"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.hpp"

namespace shunt::core {
namespace {

timespec now(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return time;
}

/// What others choose, as the log has it: a line has an end, and what is said behind it must not be cut off.
std::string shown(const std::string &text) {
  constexpr std::size_t kLongest = 1000;
  return text.size() <= kLongest ? text
                                 : text.substr(0, kLongest / 2) + "..." + text.substr(text.size() - kLongest / 2);
}

const char *or_none(const std::string &text) { return text.empty() ? "none" : text.c_str(); }

Error busy() {
  return make_error(Code::busy, "shunt was called from inside shunt, by a replacement that it ran into on this thread");
}

Error name_taken(const Record &record) {
  return make_error(Code::name_taken,
                    "a patch '%s' is applied already, from %s: revert it first, or give the new one another name",
                    record.name.c_str(), record.facts.file.c_str());
}

// ---- the audit trail

/// ", 2 entries", or nothing.
std::string entries_text(std::size_t entries) {
  return entries > 0 ? ", " + std::to_string(entries) + (entries == 1 ? " entry" : " entries") : "";
}

void tell_applied(const Record &record, std::int64_t microseconds) {
  log(SHUNT_LOG_INFO, "applied %s: as '%s', %zu slots%s, %lld us; by %s, uid %u, pid %d; build-id %s, sha256 %s",
      shown(record.facts.file).c_str(), shown(record.name).c_str(), record.slots, entries_text(record.entries).c_str(),
      static_cast<long long>(microseconds), how_name(record.by.how), record.by.uid, record.by.pid,
      or_none(record.facts.build_id), or_none(record.facts.sha256));
}

void tell_reverted(const Record &record, const Who &who, std::size_t conflicts) {
  log(SHUNT_LOG_INFO, "reverted %s: '%s', %zu slots%s, %zu left alone; by %s, uid %u, pid %d; build-id %s, sha256 %s",
      shown(record.facts.file).c_str(), shown(record.name).c_str(), record.slots, entries_text(record.entries).c_str(),
      conflicts, how_name(who.how), who.uid, who.pid, or_none(record.facts.build_id), or_none(record.facts.sha256));
}

/// What the program asks for by itself it is told; what others ask for, only the log remembers.
void tell_no(const char *what, const FileFacts &facts, const Who &who, const Error &error) {
  shunt_log_level level = who.how == How::at_start || who.how == How::folder ? SHUNT_LOG_ERROR : SHUNT_LOG_WARNING;
  if (who.may_be_inherited && error.code == Code::patch_matches_nothing) level = SHUNT_LOG_INFO;
  const bool is_named = error.message.compare(0, facts.file.size(), facts.file) == 0;  // most sentences begin so
  log(level, "not %s: %s%s%s; by %s, uid %u, pid %d; build-id %s, sha256 %s", what,
      is_named ? "" : shown(facts.file).c_str(), is_named ? "" : ": ", shown(error.message).c_str(), how_name(who.how),
      who.uid, who.pid, or_none(facts.build_id), or_none(facts.sha256));
}

}  // namespace

const char *how_name(How how) {
  switch (how) {
    case How::program:
      return "program";
    case How::at_start:
      return "SHUNT_PATCH";
    case How::folder:
      return "SHUNT_DIR";
    case How::control:
      return "control";
  }
  return "";
}

Who Who::self(How how) { return {how, geteuid(), getpid(), how == How::at_start}; }

std::string name_of_file(const std::string &file) {
  std::string name = file.substr(file.rfind('/') + 1);
  if (name.size() > 3 && name.compare(name.size() - 3, 3, ".so") == 0) name.resize(name.size() - 3);
  return name;
}

Registry &Registry::instance() {
  static auto *const registry = new Registry;
  return *registry;
}

/// The engine is called with the registry held, so its handlers are made first: before a fork they run in reverse order.
Registry::Registry() {
  Engine::instance();
  pthread_atfork([] { instance().mutex_.before_fork(); }, [] { instance().mutex_.after_fork_in_parent(); },
                 [] { instance().mutex_.after_fork_in_child(); });
}

Record *Registry::with_name(const std::string &name) {
  const auto found = std::find_if(applied_.begin(), applied_.end(), [&](const auto &one) { return one->name == name; });
  return found != applied_.end() ? found->get() : nullptr;
}

std::optional<Error> Registry::check_name(const std::string &name) {
  const OwnedMutex::Guard guard(mutex_);
  if (!guard) return busy();
  const Record *record = with_name(name);
  if (record == nullptr) return std::nullopt;
  return name_taken(*record);
}

// ---- apply

/// Takes all memory that is needed, so that nothing can fail once the slots are written.
Result<std::shared_ptr<Record>> Registry::prepare(const std::shared_ptr<Patch> &patch, const Who &who,
                                                  const std::string &name) {
  auto record = std::make_shared<Record>();
  record->facts = patch->facts();
  record->by = who;
  record->name = name;
  if (!name.empty()) {
    if (const Record *other = with_name(name)) return name_taken(*other);
  } else {
    const std::string base = name_of_file(record->facts.file);
    record->name = base;
    for (unsigned number = 2; with_name(record->name) != nullptr; ++number)
      record->name = base + "#" + std::to_string(number);
  }
  applied_.reserve(applied_.size() + 1);
  return record;
}

Result<Registry::Applied> Registry::apply(const std::shared_ptr<Patch> &patch, const Who &who,
                                          const std::string &name) {
  OwnedMutex::Guard guard(mutex_);
  if (!guard) return busy();
  auto record = prepare(patch, who, name);
  if (!record) {
    ++counters_.refused;
    guard.release();
    tell_no("applied", patch->facts(), who, record.error());
    return record.error();
  }
  const timespec begin = now(CLOCK_MONOTONIC);
  const Result<Done> done = patch->apply();
  const timespec end = now(CLOCK_MONOTONIC);
  if (!done) {
    ++counters_.refused;
    guard.release();
    tell_no("applied", patch->facts(), who, done.error());
    return done.error();
  }
  Record &fresh = **record;
  fresh.patch = patch;
  fresh.id = next_id_++;
  fresh.applied_at = now(CLOCK_REALTIME);
  fresh.slots = patch->change()->list.slots.size();
  fresh.entries = patch->change()->entry_count();
  applied_.push_back(*record);
  ++counters_.applied;
  guard.release();
  const std::int64_t microseconds = (end.tv_sec - begin.tv_sec) * 1'000'000 + (end.tv_nsec - begin.tv_nsec) / 1000;
  tell_applied(fresh, microseconds);
  return Applied{*record, microseconds};
}

// ---- revert

/// With the registry held.
Result<Registry::Reverted> Registry::revert_record(const std::shared_ptr<Record> &record, const Who &who) {
  Reverted reverted{record->id, record->name, record->slots, record->entries, 0};
  reverted_.reserve(kRevertedKept + 1);
  if (const Result<Done> done = record->patch->revert(); !done) {
    ++counters_.refused;
    return done.error();
  }
  reverted.conflicts = record->conflicts = record->patch->last_conflicts();
  record->reverted_at = now(CLOCK_REALTIME);
  record->reverted_by = who;
  record->patch.reset();
  reverted_.push_back(record);
  if (reverted_.size() > kRevertedKept) reverted_.erase(reverted_.begin());
  std::erase(applied_, reverted_.back());
  ++counters_.reverted;
  return reverted;
}

Result<Registry::Reverted> Registry::revert(Patch &patch, const Who &who) {
  OwnedMutex::Guard guard(mutex_);
  if (!guard) return busy();
  const auto found =
      std::find_if(applied_.begin(), applied_.end(), [&](const auto &one) { return one->patch.get() == &patch; });
  if (found == applied_.end()) return make_error(Code::wrong_state, "%s is not applied", patch.name().c_str());
  const std::shared_ptr<Record> record = *found;
  auto reverted = revert_record(record, who);
  guard.release();
  if (reverted)
    tell_reverted(*record, who, reverted->conflicts);
  else
    tell_no("reverted", record->facts, who, reverted.error());
  return reverted;
}

Result<Registry::Reverted> Registry::revert(const std::string &name, const Who &who) {
  std::shared_ptr<Patch> patch;
  {
    const OwnedMutex::Guard guard(mutex_);
    if (!guard) return busy();
    const auto found =
        std::find_if(applied_.begin(), applied_.end(), [&](const auto &one) { return one->name == name; });
    if (found != applied_.end())
      patch = (*found)->patch;
    else
      ++counters_.refused;
  }
  if (patch != nullptr) return revert(*patch, who);
  Error error = make_error(Code::unknown_patch, "no patch '%s' is applied", name.c_str());
  FileFacts facts;
  facts.file = name;
  tell_no("reverted", facts, who, error);
  return error;
}

std::optional<Error> Registry::revert_all(const Who &who, std::vector<Reverted> &reverted) {
  std::vector<std::shared_ptr<Patch>> patches;
  {
    const OwnedMutex::Guard guard(mutex_);
    if (!guard) return busy();
    for (const auto &record : applied_) patches.push_back(record->patch);
  }
  reverted.reserve(patches.size());
  std::optional<Error> first;
  for (auto patch = patches.rbegin(); patch != patches.rend(); ++patch) {
    auto done = revert(**patch, who);
    if (done)
      reverted.push_back(std::move(*done));
    else if (done.error().code != Code::wrong_state && !first)  // that: somebody else reverted it meanwhile
      first = done.error();
  }
  return first;
}

// ---- others

void Registry::tell_refused(const FileFacts &facts, const Who &who, const Error &error) {
  {
    const OwnedMutex::Guard guard(mutex_);
    if (guard) ++counters_.refused;
  }
  tell_no("applied", facts, who, error);
}

std::optional<Error> Registry::look(const std::function<void(const Records &, const Counters &)> &visit) {
  const OwnedMutex::Guard guard(mutex_);
  if (!guard) return busy();
  Records all = applied_;
  all.insert(all.end(), reverted_.begin(), reverted_.end());
  visit(all, counters_);
  return std::nullopt;
}

}  // namespace shunt::core
