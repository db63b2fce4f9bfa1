#include "patch/registry.hpp"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <new>

#include "base/log.hpp"
#include "base/syscalls.hpp"
#include "threads/thread_list.hpp"

namespace shunt::core {
namespace {

constexpr std::uint64_t kMillisecond = 1'000'000;
// Between two looks at code that drains; the pause doubles.
constexpr std::uint64_t kFirstPause = kMillisecond, kLongestPause = 1000 * kMillisecond;
// How long threads are waited for in one look. Others who want the engine wait as long.
constexpr std::uint64_t kFirstLook = 5 * kMillisecond, kLook = 50 * kMillisecond;

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

/// What was to be told has happened all the same.
void tell_no_memory() { log(SHUNT_LOG_ERROR, "no memory for a line of the audit trail"); }

void tell_applied(const Record &record, std::int64_t microseconds) try {
  log(SHUNT_LOG_INFO, "applied %s: as '%s', %zu slots%s, %lld us; by %s, uid %u, pid %d; build-id %s, sha256 %s",
      shown(record.facts.file).c_str(), shown(record.name).c_str(), record.slots, entries_text(record.entries).c_str(),
      static_cast<long long>(microseconds), how_name(record.by.how), record.by.uid, record.by.pid,
      or_none(record.facts.build_id), or_none(record.facts.sha256));
} catch (const std::bad_alloc &) {
  tell_no_memory();
}

void tell_gone(const Record &record, const Fate &fate) try {
  const bool is_unloaded = fate.state == Fate::State::unloaded;
  log(SHUNT_LOG_INFO, "%s %s: '%s'%s%s; build-id %s, sha256 %s", is_unloaded ? "unloaded" : "not unloaded",
      shown(record.facts.file).c_str(), shown(record.name).c_str(), is_unloaded ? "" : ", ",
      is_unloaded ? "" : text_of(fate).c_str(), or_none(record.facts.build_id), or_none(record.facts.sha256));
} catch (const std::bad_alloc &) {
  tell_no_memory();
}

void tell_reverted(const Record &record, const Who &who, std::size_t conflicts) try {
  log(SHUNT_LOG_INFO, "reverted %s: '%s', %zu slots%s, %zu left alone; by %s, uid %u, pid %d; build-id %s, sha256 %s",
      shown(record.facts.file).c_str(), shown(record.name).c_str(), record.slots, entries_text(record.entries).c_str(),
      conflicts, how_name(who.how), who.uid, who.pid, or_none(record.facts.build_id), or_none(record.facts.sha256));
} catch (const std::bad_alloc &) {
  tell_no_memory();
}

/// What the program asks for by itself it is told; what others ask for, only the log remembers.
void tell_no(const char *what, const FileFacts &facts, const Who &who, const Error &error) try {
  shunt_log_level level = who.how == How::at_start || who.how == How::folder ? SHUNT_LOG_ERROR : SHUNT_LOG_WARNING;
  if (who.may_be_inherited && error.code == Code::patch_matches_nothing) level = SHUNT_LOG_INFO;
  const bool is_named = error.message.compare(0, facts.file.size(), facts.file) == 0;  // most sentences begin so
  log(level, "not %s: %s%s%s; by %s, uid %u, pid %d; build-id %s, sha256 %s", what,
      is_named ? "" : shown(facts.file).c_str(), is_named ? "" : ": ", shown(error.message).c_str(), how_name(who.how),
      who.uid, who.pid, or_none(facts.build_id), or_none(facts.sha256));
} catch (const std::bad_alloc &) {
  tell_no_memory();
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
                 [] {
                   instance().mutex_.after_fork_in_child();
                   for (const auto &one : instance().draining_) one->code->after_fork_in_child();
                   for (const auto &one : instance().applied_) one->code->after_fork_in_child();
                 });
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
  applied_.reserve(applied_.size() + 1);
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
  fresh.code = patch->code();
  end_draining(fresh.code.get());
  fresh.code->fate = {};
  fresh.code->hand_out(true);
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
Result<Registry::Reverted> Registry::revert_record(const std::shared_ptr<Record> &record, const Who &who,
                                                   const Leaving &leaving) {
  Reverted reverted{record->id, record->name, record->slots, record->entries, 0, {}};
  reverted_.reserve(kRevertedKept + 1);
  draining_.reserve(draining_.size() + 1);
  const auto draining = std::make_shared<Draining>();
  if (const Result<Done> done = record->patch->revert(); !done) {
    ++counters_.refused;
    return done.error();
  }
  reverted.conflicts = record->conflicts = record->patch->last_conflicts();
  record->reverted_at = now(CLOCK_REALTIME);
  record->reverted_by = who;
  const bool keeps_code = leaving.keeps_code || record->patch->keeps_code();
  leave(draining, record, keeps_code);
  record->patch.reset();
  reverted_.push_back(record);
  if (reverted_.size() > kRevertedKept) reverted_.erase(reverted_.begin());
  std::erase(applied_, reverted_.back());
  ++counters_.reverted;
  return reverted;
}

Result<Registry::Reverted> Registry::take_out(Patch &patch, const Who &who, const Leaving &leaving) {
  OwnedMutex::Guard guard(mutex_);
  if (!guard) return busy();
  const auto found =
      std::find_if(applied_.begin(), applied_.end(), [&](const auto &one) { return one->patch.get() == &patch; });
  if (found == applied_.end()) return make_error(Code::wrong_state, "%s is not applied", patch.name().c_str());
  const std::shared_ptr<Record> record = *found;
  auto reverted = revert_record(record, who, leaving);
  guard.release();
  if (!reverted) {
    tell_no("reverted", record->facts, who, reverted.error());
    return reverted;
  }
  reverted->record = record;
  tell_reverted(*record, who, reverted->conflicts);
  return reverted;
}

/// What has become of their code.
void Registry::look_after(std::span<Reverted> all, std::uintptr_t own_sp) {
  drain(own_sp);
  bool drains = false;
  for (Reverted &one : all) {
    if (const OwnedMutex::Guard again(mutex_); again) one.fate.become(one.record->code->fate);
    if (one.fate.state == Fate::State::kept) tell_gone(*one.record, one.fate);
    drains = drains || one.fate.state == Fate::State::draining;
  }
  if (const auto bell = bell_.load(); bell != nullptr && drains) bell();
}

Result<Registry::Reverted> Registry::revert(Patch &patch, const Who &who, const Leaving &leaving) {
  auto reverted = take_out(patch, who, leaving);
  if (reverted) look_after({&*reverted, 1}, leaving.own_sp);
  return reverted;
}

Result<Registry::Reverted> Registry::revert(const std::string &name, const Who &who, const Leaving &leaving) {
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
  if (patch != nullptr) return revert(*patch, who, leaving);
  Error error = make_error(Code::unknown_patch, "no patch '%s' is applied", name.c_str());
  FileFacts facts;
  facts.file = name;
  tell_no("reverted", facts, who, error);
  return error;
}

std::optional<Error> Registry::revert_all(const Who &who, const Leaving &leaving, std::vector<Reverted> &reverted) {
  std::vector<std::shared_ptr<Patch>> patches;
  {
    const OwnedMutex::Guard guard(mutex_);
    if (!guard) return busy();
    for (const auto &record : applied_) patches.push_back(record->patch);
  }
  reverted.reserve(patches.size());
  std::optional<Error> first;
  for (auto patch = patches.rbegin(); patch != patches.rend(); ++patch) {
    auto done = take_out(**patch, who, leaving);
    if (done)
      reverted.push_back(std::move(*done));
    else if (done.error().code != Code::wrong_state && !first)  // that: somebody else reverted it meanwhile
      first = done.error();
  }
  look_after(reverted, leaving.own_sp);
  return first;
}

// ---- draining

/// With the registry held: what is to become of the code of a patch that was just reverted. `draining` and room for it are there.
void Registry::leave(const std::shared_ptr<Draining> &draining, const std::shared_ptr<Record> &record,
                     bool keeps_code) {
  PatchCode &code = *record->code;
  const char *const why = keeps_code ? "that was asked for" : code.why_kept();
  if (why != nullptr) {
    code.fate.become(Fate::State::kept, why);
    return;
  }
  code.hand_out(false);
  code.fate.become(Fate::State::draining);
  draining->code = record->code;
  draining->record = record;
  draining_.push_back(draining);
  draining_count_.store(draining_.size());
}

/// With the registry held: the code is in use again.
void Registry::end_draining(const PatchCode *code) {
  std::erase_if(draining_, [&](const auto &one) { return one->code.get() == code; });
  draining_count_.store(draining_.size());
}

/// One whose turn it is, or the one of `code`, to be looked at.
std::shared_ptr<Registry::Draining> Registry::take(const PatchCode *code, std::uint64_t time) {
  const OwnedMutex::Guard guard(mutex_);
  if (!guard) return nullptr;
  const auto found = std::find_if(draining_.begin(), draining_.end(), [&](const auto &one) {
    return !one->code->is_being_looked_at && (code != nullptr ? one->code.get() == code : one->next_at <= time);
  });
  if (found == draining_.end()) return nullptr;
  (*found)->code->is_being_looked_at = true;
  return *found;
}

void Registry::look_at(const std::shared_ptr<Draining> &one, std::uintptr_t own_sp, std::uint64_t wait_ns) {
  Fate found;
  try {
    one->code->try_to_unload(own_sp, wait_ns, found);
  } catch (const std::bad_alloc &) {  // it is tried again
    if (one->code->life()->is_loaded)
      found.become(Fate::State::draining, "there is no memory to ask");
    else
      found.become(Fate::State::unloaded);
  }
  OwnedMutex::Guard guard(mutex_);
  if (!guard) return;
  PatchCode &code = *one->code;
  code.is_being_looked_at = false;
  // It may have been applied again meanwhile, or even reverted again. What is unloaded is so whatever was asked for since.
  const bool is_over = std::find(draining_.begin(), draining_.end(), one) == draining_.end();
  if (is_over && found.state != Fate::State::unloaded) return;
  code.fate.become(found);
  if (found.state == Fate::State::draining) {
    one->pause = one->pause == 0 ? kFirstPause : std::min(2 * one->pause, kLongestPause);
    one->next_at = now_ns() + one->pause;
    return;
  }
  if (found.state == Fate::State::kept) code.hand_out(true);
  end_draining(&code);
  guard.release();
  if (one->record != nullptr) tell_gone(*one->record, found);
}

void Registry::drain(std::uintptr_t own_sp) {
  if (draining_count_.load() == 0) return;
  const std::uint64_t time = now_ns();
  while (const auto one = take(nullptr, time))
    look_at(one, own_sp, one->pause == 0 ? kFirstLook : std::min(one->pause, kLook));
}

std::optional<std::uint64_t> Registry::next_drain() {
  if (draining_count_.load() == 0) return std::nullopt;
  const OwnedMutex::Guard guard(mutex_);
  std::optional<std::uint64_t> first;
  for (const auto &one : draining_) {
    const std::uint64_t next = one->code->is_being_looked_at ? now_ns() + kLook : one->next_at;
    if (!first || next < *first) first = next;
  }
  return first;
}

Result<Fate> Registry::fate_of(const Patch &patch) {
  const OwnedMutex::Guard guard(mutex_);
  if (!guard) return busy();
  return patch.code()->fate;
}

Result<Fate> Registry::wait(const Patch &patch, std::uintptr_t own_sp, std::uint64_t until) {
  for (std::uint64_t pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause / 50)) {
    if (const auto one = take(patch.code().get(), 0)) look_at(one, own_sp, kLook);
    const auto fate = fate_of(patch);
    const std::uint64_t time = now_ns();
    if (!fate || fate->state != Fate::State::draining || time >= until) return fate;
    const std::uint64_t left = std::min(pause, until - time);
    const timespec duration = {static_cast<time_t>(left / 1'000'000'000), static_cast<long>(left % 1'000'000'000)};
    sys::call(SYS_nanosleep, &duration, nullptr);
  }
}

void Registry::let_go(const Patch &patch) {
  const auto draining = std::make_shared<Draining>();
  const OwnedMutex::Guard guard(mutex_);
  PatchCode &code = *patch.code();
  if (!guard || patch.change() != nullptr || code.fate.state != Fate::State::in_place || code.life()->uses == 0) return;
  if (patch.keeps_code() || code.why_kept() != nullptr) return;
  code.fate.become(Fate::State::draining);
  code.hand_out(false);
  draining->code = patch.code();
  draining_.push_back(draining);
  draining_count_.store(draining_.size());
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
