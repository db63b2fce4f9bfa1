#include "threads/question.hpp"

#include <linux/futex.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "arch/native_context.hpp"
#include "base/syscalls.hpp"
#include "threads/at_rest.hpp"

namespace shunt::core {
namespace {

using arch::NativeContext;

constexpr std::uint64_t kMillisecond = 1'000'000;
// A call with a timeout that was begun no longer ago than this may be begun again.
constexpr std::uint64_t kJustBegun = 2 * kMillisecond;
// How long threads are waited for after the deadline that were sent the signal and have not got round to it.
constexpr std::uint64_t kLateness = 200 * kMillisecond;

/// False when none came.
bool wait_for_answers(std::uint32_t seen) {
  const timespec at_most = {0, kMillisecond};  // who falls asleep or ends does not answer
  const long woken =
      sys::call(SYS_futex, &Board::the()->answers, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, seen, &at_most, nullptr, 0);
  return woken == 0 || errno != ETIMEDOUT;
}

bool lives(int id) { return sys::call(SYS_tgkill, sys::call(SYS_getpid), id, 0) == 0 || errno != ESRCH; }

}  // namespace

// ---- before and after

bool Question::open(int needed, std::uint64_t deadline, Obstacle &obstacle) {
  obstacle = {};
  obstacle.why = "no memory to note the threads";
  if (!Board::make() || !buffer_.reserve(std::size_t{8} << 10)) return false;
  buffer_.set_size(buffer_.capacity());
  for (;;) {
    if (!list(deadline, obstacle)) return false;
    obstacle = {};
    blocked_by_some_ = 0;
    for (const int id : list_.ids()) {
      std::uint64_t mask = 0;
      const bool is_known = blocked_signals(id, mask);
      if (!is_known && !lives(id)) continue;
      blocked_by_some_ |= mask;
      if (is_known && (needed == 0 || !blocks(mask, needed))) continue;
      obstacle.thread = id;
      obstacle.at = standing_of(id).pc;
      obstacle.why = is_known ? "blocks the signal of a breakpoint (SIGTRAP)" : "does not show which signals it blocks";
    }
    if (obstacle.thread == 0) break;
    // A thread that starts, or starts another, blocks all signals for a moment.
    if (now_ns() >= deadline) return false;
    wait_for_answers(Board::the()->answers.load());
  }
  if (!threads_.reserve(list_.ids().size() + 64)) {
    obstacle.why = "no memory to note the threads";
    return false;
  }
  obstacle.why = "no real-time signal is free to ask the threads with";
  return install();
}

bool Question::list(std::uint64_t deadline, Obstacle &obstacle) {
  const ThreadList::Outcome outcome = list_.read(deadline);
  if (outcome == ThreadList::Outcome::complete) return true;
  obstacle = {};
  obstacle.why = outcome == ThreadList::Outcome::no_proc
                     ? "the threads cannot be listed: /proc/self/task cannot be read"
                 : outcome == ThreadList::Outcome::no_memory ? "no memory to note the threads"
                                                             : "threads start and end faster than they can be listed";
  return false;
}

/// Takes a signal without a handler; one that nobody blocks, if there is one: who blocks it may wait for it in another way.
bool Question::install() {
  struct sigaction ours = {};
  ours.sa_sigaction = on_question;
  ours.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  // The application's handlers wait, but what an instruction can raise must not be blocked.
  sigfillset(&ours.sa_mask);
  for (const int fault : {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE}) sigdelset(&ours.sa_mask, fault);
  for (const bool may_be_blocked : {false, true}) {
    for (int one = SIGRTMAX; one >= SIGRTMIN; --one) {
      if (!may_be_blocked && blocks(blocked_by_some_, one)) continue;
      if (sigaction(one, nullptr, &before_) != 0 || (before_.sa_flags & SA_SIGINFO) != 0 ||
          before_.sa_handler != SIG_DFL)
        continue;
      if (sigaction(one, &ours, nullptr) != 0) continue;
      signal_ = one;
      sent_ = 0;
      answers_before_ = Board::the()->answers.load();
      return true;
    }
  }
  return false;
}

void Question::close() {
  if (signal_ == 0) return;
  // A call that fails because of a signal is made good by the signal's handler alone.
  const Board &board = *Board::the();
  const std::uint64_t end = now_ns() + kLateness;
  for (std::uint32_t seen = 0; (seen = board.answers.load()) - answers_before_ < sent_ && now_ns() < end;)
    wait_for_answers(seen);
  struct sigaction present = {};
  sigaction(signal_, nullptr, &present);
  // Another handler by now: the application has taken the signal, and keeps it.
  if ((present.sa_flags & SA_SIGINFO) != 0 && present.sa_sigaction == on_question) {
    struct sigaction ignored = {};
    ignored.sa_handler = SIG_IGN;
    sigaction(signal_, &ignored, nullptr);  // what is queued for whichever thread is discarded: sigaction(2)
    sigaction(signal_, &before_, nullptr);
  }
  signal_ = 0;
}

void Question::before_fork() { StackOwner::before_fork(); }

void Question::after_fork_in_child() {
  StackOwner::after_fork_in_child();
  if (Board *const board = Board::the()) board->inside.store(0);
}

// ---- asking

bool Question::ask(std::span<const CodeRange> some, std::uintptr_t own_sp, std::uint64_t deadline, Passing &passing,
                   Obstacle &obstacle) {
  if (!list(deadline, obstacle) || !add_threads(obstacle)) return false;
  passing.threads = static_cast<std::uint32_t>(threads_.size());
  return run(CodeRanges(some), Manner::is_outside, own_sp, deadline, passing, obstacle);
}

bool Question::ask_whether_free(const CodeRange &code, Bystanders &bystanders, std::uintptr_t own_sp,
                                std::uint64_t deadline, Passing &passing, Obstacle &obstacle) {
  const CodeRanges ranges({&code, 1}, true);
  bystanders_ = &bystanders;
  for (;;) {
    threads_.clear();
    if (!list(deadline, obstacle) || !add_strangers(obstacle)) return false;
    passing.threads = static_cast<std::uint32_t>(list_.ids().size());
    if (threads_.empty()) return true;  // whoever was started since was started by somebody who holds nothing
    const bool is_free = run(ranges, Manner::holds_nothing, own_sp, deadline, passing, obstacle);
    for (const Thread &thread : threads_)
      if (thread.has_passed) bystanders.add_seen(thread.id, thread.started);
    if (!is_free) return false;
  }
}

bool Question::run(const CodeRanges &ranges, Manner manner, std::uintptr_t own_sp, std::uint64_t deadline,
                   Passing &passing, Obstacle &obstacle) {
  Board &board = *Board::the();
  board.manner = manner;
  board.ranges = &ranges;
  board.stacks = &stacks_;
  for (AskedThread &record : board.records) record.state.store(AskedThread::free_for_use);
  board.generation.fetch_add(1);

  bool has_everybody = false, is_overdue = false;
  for (;;) {
    const std::uint32_t seen = board.answers.load();
    // No handler looks at the stacks while none was asked: then they can be read anew.
    bool is_asking = false;
    for (const Thread &thread : threads_) is_asking = is_asking || thread.record >= 0;
    const bool has_stacks = is_asking || stacks_.read();
    has_everybody = true;
    for (Thread &thread : threads_) {
      if (thread.has_passed) continue;
      if (thread.record >= 0) take_answer(thread, passing);
      if (thread.has_passed) continue;
      // A thread that was asked and has not answered may be asleep by now, with the signal blocked.
      if (has_stacks && (thread.record < 0 || is_overdue)) {
        if (thread.id == sys::thread_id())
          ask_self(thread, ranges, own_sp);
        else
          look_at(thread, ranges, passing);
      }
      if (thread.has_passed) continue;
      has_everybody = false;
      obstacle = obstacle_of(thread);
    }
    if (has_everybody || is_too_late(deadline)) break;
    is_overdue = !wait_for_answers(seen);
  }

  // From here on nobody begins to answer; who is answering is waited for, since the ranges go away.
  board.generation.fetch_add(1);
  while (board.inside.load() != 0) sys::call(SYS_sched_yield);
  for (Thread &thread : threads_)
    if (!thread.has_passed && thread.record >= 0) take_answer(thread, passing);
  return has_everybody;
}

/// Who was asked and has not answered may only be waiting for a core: close() would wait for that answer as well.
bool Question::is_too_late(std::uint64_t deadline) const {
  const std::uint64_t now = now_ns();
  const bool is_asking =
      std::any_of(threads_.begin(), threads_.end(), [](const Thread &thread) { return thread.record >= 0; });
  return now >= deadline && (!is_asking || now - deadline >= kLateness);
}

bool Question::add_threads(Obstacle &obstacle) {
  threads_.clear();
  for (const int id : list_.ids()) {
    Thread thread;
    thread.id = id;
    if (threads_.push_back(thread)) continue;
    obstacle = {};
    obstacle.why = "no memory to note the threads";
    return false;
  }
  return true;
}

/// Those of the list that are not known to hold nothing.
bool Question::add_strangers(Obstacle &obstacle) {
  if (!add_threads(obstacle)) return false;
  std::size_t kept = 0;
  for (Thread &thread : threads_) {
    thread.started = start_of(thread.id);
    if (!bystanders_->was_seen(thread.id, thread.started)) threads_[kept++] = thread;
  }
  threads_.set_size(kept);
  return true;
}

/// The asking thread stands elsewhere. Only its callers can be in the way.
void Question::ask_self(Thread &thread, const CodeRanges &ranges, std::uintptr_t sp) {
  thread.has_passed = sp == kOwnThread;
  if (thread.has_passed) return;
  const std::uintptr_t any_end = stacks_.end_of(sp);
  const std::uintptr_t end = ranges.counts_every_word() ? stacks_.own_end(sp, StackOwner::self()) : any_end;
  const Scan scan = end == 0 ? Scan::failed : scan_stack(ranges, sp, end, {buffer_.data(), buffer_.size()}, thread.at);
  thread.has_passed = scan == Scan::clean;
  thread.why = scan != Scan::found ? kStackUnknown : ranges.counts_every_word() ? kHasAddressOnStack : kReturnsThere;
  if (end != 0 || any_end == 0) return;
  has_seen_coroutine_ = true;
  thread.why = kIsCoroutine;
}

/// Seen to be out of the way, or asked.
void Question::look_at(Thread &thread, const CodeRanges &ranges, Passing &passing) {
  if (ranges.counts_every_word() && AtRest::is(thread.id)) {
    thread.has_passed = true;
    return;
  }
  const std::uint64_t now = now_ns();
  // Who has just said that it is in the way may be on its way back to where it slept: it is given time.
  if (thread.answered_at != 0 && now - thread.answered_at < kMillisecond) return;
  const Standing standing = standing_of(thread.id);
  thread.call = standing.doing == Standing::Doing::asleep ? standing.call.number : -1;
  switch (standing.doing) {
    case Standing::Doing::gone:
      thread.has_passed = true;
      return;
    case Standing::Doing::forking:
      thread.at = standing.pc;
      thread.why = "waits for a child that shares its memory (vfork)";
      return;
    case Standing::Doing::running:
    case Standing::Doing::unknown:
      if (thread.answered_at == 0) thread.at = standing.pc;
      send(thread, standing);
      break;
    case Standing::Doing::asleep:
      if (ranges.counts_every_word())
        look_whether_it_holds_nothing(thread, standing, passing);
      else
        look_whether_outside(thread, standing, ranges, passing);
  }
  thread.looked_at = now;
  thread.switches = standing.switches;
}

void Question::look_whether_outside(Thread &thread, const Standing &standing, const CodeRanges &ranges,
                                    Passing &passing) {
  thread.at = standing.pc;
  // A system call that is begun again is begun before where its thread stands now.
  const bool is_in_call = standing.call.number >= 0;
  const bool stands_there = ranges.moved(standing.pc) != standing.pc ||
                            (is_in_call && ranges.moved(standing.pc - NativeContext::kSystemCall) !=
                                               standing.pc - NativeContext::kSystemCall);
  const auto ask_if_unnoticed = [&] {
    if (goes_unnoticed(thread, standing)) send(thread, standing);
  };
  if (stands_there) return ask_if_unnoticed();
  std::uintptr_t where = 0;
  const std::uintptr_t end = stacks_.end_of(standing.sp);
  const Scan scan = end == 0 && standing.sp != 0
                        ? Scan::failed
                        : scan_stack(ranges, standing.sp, end, {buffer_.data(), buffer_.size()}, where);
  const Standing after = standing_of(thread.id);
  if (after.doing != Standing::Doing::asleep || after.switches != standing.switches) return;  // it ran: look again
  if (scan == Scan::clean) {
    thread.has_passed = true;
    passing.asleep += 1;
  } else if (scan == Scan::found) {
    // It wakes up and comes out of there by itself; a signal would not help it.
    thread.at = where;
    thread.why = kReturnsThere;
  } else {
    ask_if_unnoticed();
  }
}

void Question::look_whether_it_holds_nothing(Thread &thread, const Standing &standing, Passing &passing) {
  // Of a first thread that has ended there is nothing left but its number.
  const bool has_ended = standing.pc == 0 && standing.sp == 0;
  if (has_ended || bystanders_->has_not_run(thread.id, thread.started, standing.switches)) {
    thread.has_passed = true;
    passing.asleep += 1;
    return;
  }
  // It said why it is in the way, and sleeps where it slept then.
  if (thread.answered_at != 0 && thread.answered_pc == standing.pc && thread.answered_sp == standing.sp) return;
  thread.at = standing.pc;
  if (goes_unnoticed(thread, standing)) send(thread, standing);
}

/// Whether a thread sleeps until a signal of a set comes, and that is one of them. It does not block it then.
bool Question::is_awaited(const SystemCall &call) const {
  if (call.number != SYS_rt_sigtimedwait) return false;
  std::uint64_t set = 0;
  const iovec to = {&set, sizeof set};
  const iovec from = {reinterpret_cast<void *>(call.arguments[0]), sizeof set};
  const long got = sys::call(SYS_process_vm_readv, sys::call(SYS_getpid), &to, 1, &from, 1, 0);
  return got != static_cast<long>(sizeof set) || blocks(set, signal_);
}

/// Whether a signal leaves the sleep of a thread as it was. Where it may, the thread is in the way until it wakes up by itself.
bool Question::goes_unnoticed(Thread &thread, const Standing &standing) {
  thread.why = "is asleep in a system call that would notice a signal";
  if (is_awaited(standing.call)) return false;
  const Again again = standing.call.number < 0 ? Again::exact : core::again(standing.call);
  // It was seen somewhere else, or running, and that a moment ago: by itself, not because it was asked.
  const bool has_just_begun =
      thread.looked_at != 0 && thread.switches != standing.switches && now_ns() - thread.looked_at < kJustBegun;
  return again == Again::exact || (again == Again::whole && has_just_begun);
}

void Question::send(Thread &thread, const Standing &standing) {
  if (thread.record >= 0) return;
  // A signal that waits is let in where the thread notices it: a handler of the application's returns into the end of a call that its own
  // signal ended, or the next call is sigwait() for all signals. Who only runs a handler, ours too, is looked at again.
  if (blocks(standing.blocked, signal_)) {
    thread.why = "blocks all signals that it could be asked with, and was not seen asleep outside";
    return;
  }
  Board &board = *Board::the();
  for (std::size_t k = 0; k < Board::kRecords; ++k) {
    AskedThread &record = board.records[k];
    std::uint32_t expected = AskedThread::free_for_use;
    // Nobody else asks; `answering` keeps a handler off that is late from the last question.
    if (!record.state.compare_exchange_strong(expected, AskedThread::answering)) continue;
    const bool is_asleep = standing.doing == Standing::Doing::asleep;
    record.seen = is_asleep ? standing.call : SystemCall{};
    record.seen_pc = thread.answered_pc = is_asleep ? standing.pc : 0;
    record.seen_sp = thread.answered_sp = is_asleep ? standing.sp : 0;
    record.state.store(AskedThread::asked);
    siginfo_t info = {};
    info.si_signo = signal_;
    info.si_code = SI_QUEUE;
    info.si_pid = static_cast<pid_t>(sys::call(SYS_getpid));
    info.si_uid = static_cast<uid_t>(sys::call(SYS_getuid));
    info.si_value.sival_ptr = board.value_of(k);
    thread.why = "does not answer";
    if (sys::call(SYS_rt_tgsigqueueinfo, info.si_pid, thread.id, signal_, &info) == 0) {
      thread.record = static_cast<int>(k);
      sent_ += 1;
    } else {
      thread.has_passed = errno == ESRCH;
      thread.why = "cannot be sent a signal";
      record.state.store(AskedThread::free_for_use);
    }
    return;
  }
}

void Question::take_answer(Thread &thread, Passing &passing) {
  AskedThread &record = Board::the()->records[thread.record];
  const std::uint32_t state = record.state.load();
  if (state == AskedThread::answering) return;
  if (state == AskedThread::asked) {
    if (!lives(thread.id)) {
      thread.has_passed = true;
      sent_ -= 1;  // it is gone with the thread
      forget(thread);
    }
    return;
  }
  passing.asked += 1;
  passing.moved += state == AskedThread::was_moved ? 1 : 0;
  passing.longest_hold_ns = std::max(passing.longest_hold_ns, record.held_ns);
  thread.has_passed = state != AskedThread::in_the_way;
  thread.at = record.at;
  thread.why = record.why;
  thread.answered_at = now_ns();
  thread.looked_at = 0;  // that it has run since means nothing: it was we who woke it
  if (record.foreign_sp != 0) look_whether_coroutine(thread, record);
  forget(thread);
}

/// What the thread's stack was compared with may be older than the stack, so it is compared anew.
void Question::look_whether_coroutine(Thread &thread, const AskedThread &record) {
  Stacks now;
  if (!now.read() || now.end_of(record.foreign_sp) == 0 || now.own_end(record.foreign_sp, record.owner) != 0) return;
  has_seen_coroutine_ = true;
  thread.why = kIsCoroutine;
}

void Question::forget(Thread &thread) {
  Board::the()->records[thread.record].state.store(AskedThread::free_for_use);
  thread.record = -1;
}

}  // namespace shunt::core
