#include "entry/change.hpp"

#include <signal.h>

#include <algorithm>
#include <cstring>

#include "arch/native_code.hpp"
#include "base/syscalls.hpp"
#include "entry/breakpoints.hpp"

namespace shunt::core {
namespace {

using arch::CodeBytes;
using arch::NativeCode;

/// Lets SIGTRAP through to this thread: it may itself run into a breakpoint of its own.
class TrapsAllowed {
 public:
  TrapsAllowed() {
    const std::uint64_t trap = std::uint64_t{1} << (SIGTRAP - 1);
    sys::call(SYS_rt_sigprocmask, SIG_UNBLOCK, &trap, &before_, sizeof trap);
  }
  TrapsAllowed(const TrapsAllowed &) = delete;
  TrapsAllowed &operator=(const TrapsAllowed &) = delete;
  ~TrapsAllowed() { sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &before_, nullptr, sizeof before_); }

 private:
  std::uint64_t before_ = 0;
};

}  // namespace

bool EntryChange::run(std::span<EntryStep> steps) {
  if (!moves_.reserve(steps.size()) || !pieces_.reserve(3 * steps.size()) || !changes_.reserve(3 * steps.size()) ||
      !ranges_.reserve(steps.size())) {
    problem_.set(Code::out_of_memory, "no memory to redirect %zu entries", steps.size());
    return false;
  }
  for (EntryStep &step : steps)
    if (!add(step)) return false;
  if (moves_.empty()) return true;
  const TrapsAllowed allowed;
  bool arms = false;
  for (const Move &move : moves_) arms = arms || move.arms;
  hits_before_ = Breakpoints::hits();
  if (arms) prepare_cores();
  if (!write_free_stubs() || (arms && !set_breakpoints())) return false;
  if (!(!arms || ask_for_breakpoints()) || !write_targets()) {
    if (arms) take_breakpoints_back();
    return false;
  }
  synchronise_cores();
  if (arms) report_.breakpoints_ns = now_ns() - armed_at_;
  note();
  settle_padding();
  report_.trapped = Breakpoints::hits() - hits_before_;
  return true;
}

/// Works out what becomes of the entry.
bool EntryChange::add(EntryStep &step) {
  Entry &entry = entries_.entries_[step.entry];
  step.before = entry.target;
  step.is_conflict = false;
  if (step.target == entry.target) return true;
  if ((step.target == 0 || step.is_revert) && !entries_.stands(step.entry)) {
    // Somebody else's jump stands there, and may lead on to what we wrote. It all stays.
    // Or the function itself, of another loading of its object: nothing is left to be done.
    step.is_conflict = !entries_.is_the_function_again(step.entry);
    report_.conflicts += step.is_conflict ? 1 : 0;
    entries_.functions_[step.entry] = 0;
    return true;
  }
  if (!entry.is_written || entries_.functions_[step.entry] == 0) {
    problem_.object = entry.object;
    problem_.symbol = entry.symbol;
    problem_.address = entry.function;
    problem_.set(Code::plan_stale, "the entry of '%s' in %s is not prepared, or its code is gone", entry.symbol,
                 entry.object);
    return false;
  }
  Move move = {};
  move.entry = &entry;
  move.target = step.target;
  move.arms = entry.target == 0 && entry.needs_breakpoint();
  move.uses_stub = step.target != 0 && !NativeCode::reaches(entry.plan, entry.function, step.target);
  if (move.uses_stub || entry.uses_stub) move.stub_target = step.target != 0 ? step.target : entry.trampoline;
  // A jump in padding that nobody comes to any more leads to the trampoline, until it is taken out.
  const std::uintptr_t to = move.uses_stub ? entry.stub : step.target != 0 ? step.target : entry.trampoline;
  const arch::EntryBytes bytes = NativeCode::entry_bytes(entry.plan, entry.function, to);
  move.at_entry = step.target != 0 ? bytes.entry : entry.original_entry;
  move.at_padding = bytes.padding;
  return moves_.push_back(move);
}

// ---- the flips

/// Stubs that no entry leads to yet.
bool EntryChange::write_free_stubs() {
  pieces_.clear();
  for (const Move &move : moves_)
    if (move.stub_target != 0 && !move.entry->uses_stub && !add_stub(move)) return false;
  if (!flip(problem_)) return false;
  for (const Move &move : moves_)
    if (move.stub_target != 0 && !move.entry->uses_stub) move.entry->stub_target = move.stub_target;
  return true;
}

/// Flip 1: from here on nobody gets between the first instructions any more.
bool EntryChange::set_breakpoints() {
  bool is_ready = Breakpoints::install();
  if (!is_ready) problem_.set(Code::system, "cannot install a handler for breakpoints (SIGTRAP)");
  const Move *const first = std::find_if(moves_.begin(), moves_.end(), [](const Move &move) { return move.arms; });
  is_ready = is_ready && ask({}, SIGTRAP, *first->entry);
  pieces_.clear();
  for (const Move &move : moves_) {
    if (!is_ready || !move.arms) continue;
    const Entry &entry = *move.entry;
    const std::uint8_t *const originals = entries_.originals_.data() + entry.originals;
    CodeBytes trap = entry.original_entry;
    std::memcpy(trap.bytes, NativeCode::kTrap, sizeof NativeCode::kTrap);
    const std::uint32_t end = entry.plan.site + entry.original_entry.size;
    Piece rest = {entry.function + end, entry.saved - end, true, {}, {}, originals + end, &entry};
    // Behind what changes the displaced instructions go on: the trampoline has them as they were.
    // (A breakpoint may stand there already: take_breakpoints_back().)
    is_ready = add_piece(entry, entry.at_entry, trap) && (rest.size == 0 || add_piece(rest));
  }
  if (!is_ready) return false;
  for (const Move &move : moves_)
    if (move.arms) Breakpoints::lead(move.entry->site(), move.entry->trampoline);
  armed_at_ = now_ns();
  if (!flip(problem_)) {
    for (const Move &move : moves_)
      if (move.arms) Breakpoints::lead(move.entry->site(), 0);
    return false;
  }
  for (const Move &move : moves_)
    if (move.arms) std::memcpy(move.entry->at_entry.bytes, NativeCode::kTrap, sizeof NativeCode::kTrap);
  synchronise_cores();
  return true;
}

bool EntryChange::ask_for_breakpoints() {
  ranges_.clear();
  for (const Move &move : moves_) {
    if (!move.arms) continue;
    const Entry &entry = *move.entry;
    const std::uintptr_t begin = entry.site() + 1;
    static_cast<void>(ranges_.push_back({begin,
                                         entry.function + entry.plan.displaced - begin,
                                         entry.plan.has_call,
                                         entry.function,
                                         entry.trampoline,
                                         {entries_.boundaries_.data() + entry.boundaries, entry.boundary_count}}));
  }
  const Move *const first = std::find_if(moves_.begin(), moves_.end(), [](const Move &move) { return move.arms; });
  return ask({ranges_.data(), ranges_.size()}, SIGTRAP, *first->entry);
}

/// Who went to a trampoline by way of a breakpoint is in the function as it was; so the entries can be what they were at any time.
/// Where the kernel now refuses what it granted a moment ago, the breakpoints stay and lead to the trampolines: the functions
/// work, and their next commit() finds the breakpoints.
void EntryChange::take_breakpoints_back() {
  pieces_.clear();
  for (const Move &move : moves_)
    if (move.arms) static_cast<void>(add_piece(*move.entry, move.entry->at_entry, move.entry->original_entry));
  Problem refused;
  if (!flip(refused)) return;
  synchronise_cores();
  for (const Move &move : moves_) {
    if (!move.arms) continue;
    Breakpoints::lead(move.entry->site(), 0);
    move.entry->at_entry = move.entry->original_entry;
  }
}

/// Flip 2, or the only one: one instruction becomes another.
bool EntryChange::write_targets() {
  pieces_.clear();
  for (const Move &move : moves_) {
    const Entry &entry = *move.entry;
    if (!add_piece(entry, entry.at_entry, move.at_entry) || !add_piece(entry, entry.at_padding, move.at_padding))
      return false;
    if (move.stub_target != 0 && entry.uses_stub && !add_stub(move)) return false;
  }
  return flip(problem_);
}

void EntryChange::note() {
  for (const Move &move : moves_) {
    Entry &entry = *move.entry;
    if (move.arms) Breakpoints::lead(entry.site(), 0);
    if (move.stub_target != 0) entry.stub_target = move.stub_target;
    entry.target = move.target;
    entry.uses_stub = move.uses_stub;
    entry.at_entry = move.at_entry;
    if (!entry.is_in_padding()) continue;
    entry.at_padding = move.at_padding;
    entry.padding_is_left = move.target == 0;
  }
}

/// Padding that nobody comes to any more is what it was, when nobody is there.
void EntryChange::settle_padding() {
  static constexpr arch::Boundary kBegin = {0, 0};
  ranges_.clear();
  pieces_.clear();
  const Entry *first = nullptr;
  for (const Move &move : moves_) {
    const Entry &entry = *move.entry;
    if (!entry.padding_is_left) continue;
    first = &entry;
    const std::uintptr_t begin = entry.at_padding.address;
    static_cast<void>(ranges_.push_back({begin, entry.at_padding.size, false, begin, entry.function, {&kBegin, 1}}));
    static_cast<void>(add_piece(entry, entry.at_padding, entry.original_padding));
  }
  if (ranges_.empty()) return;
  Problem refused, &problem = problem_;
  const bool is_free = ask({ranges_.data(), ranges_.size()}, 0, *first);
  problem = Problem{};
  if (!is_free || !flip(refused)) {
    report_.padding_left = ranges_.size();
    return;
  }
  for (const Move &move : moves_) {
    Entry &entry = *move.entry;
    if (!entry.padding_is_left) continue;
    entry.at_padding = entry.original_padding;
    entry.padding_is_left = false;
  }
}

// ---- threads

/// Without ranges: only has everything ready.
bool EntryChange::ask(std::span<CodeRange> ranges, int needed, const Entry &first) {
  Obstacle obstacle;
  const std::uint64_t deadline = now_ns() + wait_ns_;
  std::sort(ranges.begin(), ranges.end(), [](const CodeRange &a, const CodeRange &b) { return a.begin < b.begin; });
  is_open_ = is_open_ || question_.open(needed, deadline, obstacle);
  if (is_open_ && (ranges.empty() || question_.ask(ranges, own_sp_, deadline, report_.passing, obstacle))) return true;
  const char *const object = problem_.object = first.object, *const symbol = problem_.symbol = first.symbol;
  // Not where the thread stands: whoever keeps that on its stack would itself look as if it returned there.
  problem_.address = first.function;
  if (obstacle.thread == 0)
    problem_.set(Code::thread_in_the_way, "cannot redirect the entry of '%s' in %s with its threads running: %s",
                 symbol, object, obstacle.why);
  else
    problem_.set(Code::thread_in_the_way,
                 "cannot redirect the entry of '%s' in %s: thread %d, which stands at %#lx, %s", symbol, object,
                 obstacle.thread, obstacle.at, obstacle.why);
  return false;
}

// ---- pieces

bool EntryChange::add_piece(const Piece &piece) {
  if (pieces_.push_back(piece)) return true;
  problem_.set(Code::out_of_memory, "no memory to redirect %zu entries", moves_.size());
  return false;
}

bool EntryChange::add_piece(const Entry &entry, const CodeBytes &now, const CodeBytes &then) {
  if (then.size == 0) return true;
  Piece piece = {then.address, then.size, true, {}, {}, nullptr, &entry};
  std::memcpy(piece.now, now.bytes, sizeof piece.now);
  std::memcpy(piece.then, then.bytes, sizeof piece.then);
  return add_piece(piece);
}

bool EntryChange::add_stub(const Move &move) {
  const Entry &entry = *move.entry;
  const CodeBytes then = NativeCode::stub(entry.stub, move.stub_target);
  Piece piece = {then.address, then.size, entry.stub_target != 0, {}, {}, nullptr, &entry};
  const CodeBytes now = NativeCode::stub(entry.stub, entry.stub_target);
  std::memcpy(piece.now, now.bytes, sizeof piece.now);
  std::memcpy(piece.then, then.bytes, sizeof piece.then);
  return add_piece(piece);
}

bool EntryChange::flip(Problem &problem) {
  std::sort(pieces_.begin(), pieces_.end(), [](const Piece &a, const Piece &b) { return a.address < b.address; });
  changes_.clear();
  for (const Piece &piece : pieces_) {
    const std::uint8_t *const now = piece.unchanged != nullptr ? piece.unchanged : piece.now;
    const std::uint8_t *const then = piece.unchanged != nullptr ? piece.unchanged : piece.then;
    static_cast<void>(changes_.push_back({piece.address, piece.size, piece.is_compared ? now : nullptr, then,
                                          piece.entry->object, piece.entry->symbol}));
  }
  return entries_.text_.flip({changes_.data(), changes_.size()}, problem);
}

}  // namespace shunt::core
