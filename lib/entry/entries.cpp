#include "entry/entries.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "arch/native_code.hpp"
#include "entry/breakpoints.hpp"
#include "entry/change.hpp"

namespace shunt::core {
namespace {

using arch::NativeCode;

constexpr std::uint32_t round_up(std::uint32_t size) {
  return (size + NativeCode::kAlignment - 1) / NativeCode::kAlignment * NativeCode::kAlignment;
}

void refuse(Problem &problem, Code code, const EntryTarget &target, const char *why) {
  if (!problem) {
    problem.object = target.object;
    problem.symbol = target.symbol;
    problem.address = target.function.body.address;
  }
  problem.set(code, "cannot redirect the entry of '%s' in %s: %s", target.symbol, target.object, why);
}

std::uintptr_t own_frame(void *frame) { return reinterpret_cast<std::uintptr_t>(frame); }

}  // namespace

Entries::Entries() : near_(NativeCode::kTrap) {}

Entries::~Entries() {
  for (Entry &entry : entries_)
    if (entry.trampoline != 0) give_back(entry);
}

// ---- preparing

bool Entries::prepare(const EntryTarget &target, EntryId &id, Problem &problem) {
  if (find(target, id)) return true;
  if (!entries_.reserve(entries_.size() + 1) || !functions_.reserve(entries_.size() + 1)) {
    refuse(problem, Code::out_of_memory, target, "no memory to note it");
    return false;
  }
  Entry entry;
  if (!make(target, entry, id, problem)) return false;
  // The record before, of the same place but not the same function, is nobody's any more. Its trampoline stays.
  std::uintptr_t *const same = std::find(functions_.begin(), functions_.end(), entry.function);
  if (same != functions_.end()) *same = 0;
  if (id == entries_.size()) {
    static_cast<void>(entries_.push_back(entry));
    static_cast<void>(functions_.push_back(entry.function));
  } else {
    entries_[id] = entry;
    functions_[id] = entry.function;
  }
  pending_.back().entry = id;
  return true;
}

/// The record that it becomes: a free one that has room for what is kept of it, or one more.
bool Entries::find_record(Entry &entry, EntryId &id) {
  const std::uint32_t boundaries = entry.plan.instructions + 1;
  const Entry *const free = std::find_if(entries_.begin(), entries_.end(), [&](const Entry &one) {
    return one.is_free && one.originals_room >= entry.saved && one.boundaries_room >= boundaries;
  });
  id = static_cast<EntryId>(free - entries_.begin());
  if (free != entries_.end()) {
    entry.originals = free->originals;
    entry.originals_room = free->originals_room;
    entry.boundaries = free->boundaries;
    entry.boundaries_room = free->boundaries_room;
    return true;
  }
  entry.originals = static_cast<std::uint32_t>(originals_.size());
  entry.boundaries = static_cast<std::uint32_t>(boundaries_.size());
  entry.originals_room = entry.saved;
  entry.boundaries_room = boundaries;
  if (!originals_.reserve(originals_.size() + entry.saved) || !boundaries_.reserve(boundaries_.size() + boundaries))
    return false;
  originals_.set_size(originals_.size() + entry.saved);
  boundaries_.set_size(boundaries_.size() + boundaries);
  return true;
}

/// A function that is known: redirected at this moment, or with the same first bytes as it had, and its trampoline kept.
bool Entries::find(const EntryTarget &target, EntryId &id) const {
  const auto *const found = std::find(functions_.begin(), functions_.end(), target.function.body.address);
  if (found == functions_.end()) return false;
  id = static_cast<EntryId>(found - functions_.begin());
  const Entry &entry = entries_[id];
  if (entry.target != 0) return true;
  const arch::Bytes &body = target.function.body;
  return entry.trampoline != 0 && body.size + target.function.after >= entry.saved &&
         std::memcmp(body.data, originals_.data() + entry.originals, entry.saved) == 0;
}

bool Entries::make(const EntryTarget &target, Entry &entry, EntryId &id, Problem &problem) {
  const arch::Function &function = target.function;
  entry.plan = NativeCode::plan(function);
  entry.function = function.body.address;
  entry.object = target.object;
  entry.symbol = target.symbol;
  if (entry.plan.form == arch::JumpForm::refused) {
    char why[200];
    std::snprintf(why, sizeof why, "the function %s (at +%u)", arch::refusal_text(entry.plan.refusal),
                  entry.plan.refused_at);
    refuse(problem, Code::entry_refused, target, why);
    return false;
  }
  entry.saved = std::max(entry.plan.displaced, entry.plan.site + entry.plan.changed);
  if (!find_record(entry, id) || !Breakpoints::add(entry.site())) {
    refuse(problem, Code::out_of_memory, target, "no memory to note its first bytes");
    return false;
  }
  save(target, entry);
  const std::uint32_t size = round_up(entry.plan.trampoline_bytes);
  entry.trampoline_size = size + round_up(NativeCode::kStubBytes);
  entry.trampoline = near_.allocate(entry.function, NativeCode::kReach, entry.trampoline_size, problem);
  if (entry.trampoline == 0) return false;
  entry.stub = entry.trampoline + size;
  if (relocate(target, entry, problem)) return true;
  near_.free(entry.trampoline, entry.trampoline_size);
  return false;
}

/// Everything that a redirect changes, as it is now.
void Entries::save(const EntryTarget &target, Entry &entry) {
  const arch::Bytes &body = target.function.body;
  const arch::EntryBytes changed = NativeCode::entry_bytes(entry.plan, entry.function, entry.function);
  std::memcpy(originals_.data() + entry.originals, body.data, entry.saved);

  entry.original_entry = {changed.entry.address, changed.entry.size, {}};
  std::memcpy(entry.original_entry.bytes, body.data + entry.plan.site, changed.entry.size);
  entry.original_padding = {changed.padding.address, changed.padding.size, {}};
  if (changed.padding.size > 0)
    std::memcpy(entry.original_padding.bytes, body.data - entry.plan.padding, changed.padding.size);
  entry.at_entry = entry.original_entry;
  entry.at_padding = entry.original_padding;
}

bool Entries::relocate(const EntryTarget &target, Entry &entry, Problem &problem) {
  const arch::EntryPlan &plan = entry.plan;
  const std::size_t before = pending_bytes_.size();
  entry.boundary_count = plan.instructions + 1;
  if (!pending_.reserve(pending_.size() + 1) || !pending_bytes_.reserve(before + plan.trampoline_bytes)) {
    refuse(problem, Code::out_of_memory, target, "no memory for its trampoline");
    return false;
  }
  const std::span<arch::Boundary> boundaries(boundaries_.data() + entry.boundaries, entry.boundary_count);
  const arch::Relocated done =
      NativeCode::relocate(plan, target.function.body, entry.trampoline,
                           {pending_bytes_.data() + before, plan.trampoline_bytes}, boundaries, entry.code_size);
  if (done != arch::Relocated::done) {
    if (done == arch::Relocated::out_of_reach)
      refuse(problem, Code::no_near_memory, target, "the free memory near it is too far from what it names");
    else
      refuse(problem, Code::code_changed, target, "its bytes changed while they were read");
    return false;
  }
  pending_bytes_.set_size(before + entry.code_size);
  static_cast<void>(pending_.push_back({0, static_cast<std::uint32_t>(before), entry.code_size}));
  if (plan.has_call && target.frame != nullptr) make_frame(*target.frame, entry);
  return true;
}

Unwinder Entries::unwinder() {
  const auto find = [](const char *name) { return reinterpret_cast<Unwinder::Tell *>(dlsym(RTLD_DEFAULT, name)); };
  return has_unwinder_ ? unwinder_ : Unwinder{find("__register_frame"), find("__deregister_frame")};
}

/// Tells the unwinder of the trampoline. Without memory or an unwinder nobody unwinds through it: as if the call were not described.
void Entries::make_frame(const CallFrame &frame, Entry &entry) {
  Unwinder::Tell *const tell = unwinder().add;
  const std::size_t bound = trampoline_frame_bound(frame);
  if (tell == nullptr) return;
  auto *const bytes = new (std::nothrow) std::uint8_t[bound];
  if (bytes == nullptr) return;
  const std::size_t size =
      trampoline_frame(frame, entry.function, {boundaries_.data() + entry.boundaries, entry.boundary_count},
                       entry.trampoline, entry.code_size, {bytes, bound});
  if (size == 0) {
    delete[] bytes;
    return;
  }
  tell(bytes);
  entry.frame = bytes;
}

bool Entries::write_trampolines(Problem &problem) {
  PageVector<TextChange> changes;
  bool is_done = changes.reserve(pending_.size());
  if (!is_done) problem.set(Code::out_of_memory, "no memory to write %zu trampolines", pending_.size());
  if (is_done) {
    std::sort(pending_.begin(), pending_.end(), [this](const Pending &a, const Pending &b) {
      return entries_[a.entry].trampoline < entries_[b.entry].trampoline;
    });
    for (const Pending &one : pending_) {
      const Entry &entry = entries_[one.entry];
      static_cast<void>(changes.push_back(
          {entry.trampoline, one.size, nullptr, pending_bytes_.data() + one.first, entry.object, entry.symbol}));
    }
    is_done = text_.flip({changes.data(), changes.size()}, problem);
  }
  for (const Pending &one : pending_) {
    Entry &entry = entries_[one.entry];
    entry.is_written = is_done;
    if (is_done) continue;
    give_back(entry);
    functions_[one.entry] = 0;
  }
  pending_.clear();
  pending_bytes_.clear();
  return is_done;
}

// ---- committing: change.cpp

[[gnu::noinline]] bool Entries::commit(std::span<EntryStep> steps, std::uint64_t wait_ns, EntryReport &report,
                                       Problem &problem) {
  return commit(steps, own_frame(__builtin_frame_address(0)), wait_ns, report, problem);
}

bool Entries::commit(std::span<EntryStep> steps, std::uintptr_t own_sp, std::uint64_t wait_ns, EntryReport &report,
                     Problem &problem) {
  return EntryChange(*this, own_sp, wait_ns, report, problem).run(steps);
}

bool Entries::undo(std::span<EntryStep> steps, std::uint64_t wait_ns, Problem &problem) {
  EntryReport report;
  for (EntryStep &step : steps) {
    std::swap(step.target, step.before);
    step.is_revert = false;
  }
  return commit(steps, wait_ns, report, problem);
}

// ---- giving back

void Entries::give_back(Entry &entry) {
  if (entry.frame != nullptr) {
    if (Unwinder::Tell *const untell = unwinder().remove) {
      untell(entry.frame);
      delete[] entry.frame;
    }
    entry.frame = nullptr;
  }
  near_.free(entry.trampoline, entry.trampoline_size);
  entry.trampoline = 0;
}

[[gnu::noinline]] std::size_t Entries::drop_idle(std::uint64_t wait_ns, Obstacle &obstacle) {
  PageVector<CodeRange> ranges;
  const auto is_idle = [](const Entry &entry) {
    return entry.trampoline != 0 && entry.is_written && entry.target == 0 && !entry.padding_is_left;
  };
  for (const Entry &entry : entries_) {
    if (!is_idle(entry) || ranges.push_back({entry.trampoline, entry.trampoline_size, entry.plan.has_call, 0, 0, {}}))
      continue;
    obstacle.why = "no memory to note the trampolines";
    return 0;
  }
  if (ranges.empty()) return 0;
  std::sort(ranges.begin(), ranges.end(), [](const CodeRange &a, const CodeRange &b) { return a.begin < b.begin; });
  Question question;
  Passing passing;
  const std::uint64_t deadline = now_ns() + wait_ns;
  if (!question.open(0, deadline, obstacle) ||
      !question.ask({ranges.data(), ranges.size()}, own_frame(__builtin_frame_address(0)), deadline, passing, obstacle))
    return 0;
  std::size_t dropped = 0;
  for (std::size_t k = 0; k < entries_.size(); ++k) {
    if (!is_idle(entries_[k])) continue;
    give_back(entries_[k]);
    functions_[k] = 0;
    ++dropped;
  }
  return dropped;
}

bool Entries::stands(EntryId id) const {
  const Entry &entry = entries_[id];
  const auto holds = [](const arch::CodeBytes &code) {
    return code.size == 0 || std::memcmp(reinterpret_cast<const void *>(code.address), code.bytes, code.size) == 0;
  };
  return functions_[id] != 0 && holds(entry.at_entry) && holds(entry.at_padding);
}

bool Entries::is_the_function_again(EntryId id) const {
  const Entry &entry = entries_[id];
  return functions_[id] != 0 && entry.target != 0 && !stands(id) &&
         std::memcmp(reinterpret_cast<const void *>(entry.function), originals_.data() + entry.originals,
                     entry.saved) == 0;
}

bool Entries::find_redirected(std::uintptr_t function, EntryId &id) const {
  const auto *const found = std::find(functions_.begin(), functions_.end(), function);
  if (found == functions_.end()) return false;
  id = static_cast<EntryId>(found - functions_.begin());
  return entries_[id].target != 0;
}

void Entries::forget(std::uintptr_t begin, std::uintptr_t end) {
  for (std::size_t k = 0; k < entries_.size(); ++k) {
    Entry &entry = entries_[k];
    if (functions_[k] < begin || functions_[k] >= end) continue;
    functions_[k] = 0;
    entry.target = 0;
    entry.padding_is_left = false;
    entry.is_free = true;
    if (entry.trampoline != 0) give_back(entry);
  }
}

}  // namespace shunt::core
