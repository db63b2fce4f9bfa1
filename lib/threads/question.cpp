#include "threads/question.hpp"

#include <linux/futex.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>

#include "arch/native_context.hpp"
#include "base/syscalls.hpp"

namespace shunt::core {
namespace {

using arch::NativeContext;

// ---- what the handler sees. It outlives every question, since a thread may be late.

enum State : std::uint32_t { free_for_use, asked, answering, passed, was_moved, in_the_way };

struct Record {
  std::atomic<std::uint32_t> state;
  std::uintptr_t at;
  std::uint64_t held_ns;
  const char *why;
  std::uintptr_t buffer[512];
};

struct Board {
  static constexpr std::size_t kRecords = 64;  // so many are asked at once
  std::atomic<std::uint32_t> generation;       // of the question that is open; odd, or nobody asks
  std::atomic<std::uint32_t> inside;           // handlers that look at this
  std::atomic<std::uint32_t> answers;
  const CodeRanges *ranges;
  const Stacks *stacks;
  Record records[kRecords];
};

std::atomic<Board *> the_board = nullptr;

constexpr const char *kReturnsThere = "will return into the code that changes, or is in a signal handler that will";
constexpr const char *kStackUnknown = "has a stack that cannot be read";
constexpr const char *kStandsThere = "stands where it cannot be moved from";

/// Runs in the thread that was asked. Calls nothing but system calls: whatever it called might be the function that changes.
std::uint32_t check(const Board &board, Record &record, ucontext_t &context) {
  const std::uintptr_t pc = NativeContext::pc(context), to = board.ranges->moved(pc);
  record.at = pc;
  record.why = kStandsThere;
  if (to == 0) return in_the_way;
  const std::uintptr_t sp = NativeContext::sp(context), end = board.stacks->end_of(sp);
  record.why = kStackUnknown;
  if (end == 0) return in_the_way;
  const std::uintptr_t link = NativeContext::link(context);
  Scan scan = board.ranges->will_return(link) ? Scan::found : Scan::clean;
  if (scan == Scan::found)
    record.at = link;
  else
    scan = scan_stack(*board.ranges, sp, end, record.buffer, record.at);
  if (scan == Scan::failed) return in_the_way;
  record.why = kReturnsThere;
  // Moved in any case: it is out of the bytes then, and asked again for the rest.
  if (to != pc) NativeContext::set_pc(context, to);
  if (scan == Scan::found) return in_the_way;
  return to == pc ? passed : was_moved;
}

void wake(std::atomic<std::uint32_t> &word) {
  sys::call(SYS_futex, &word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, nullptr, nullptr, 0);
}

void on_question(int, siginfo_t *info, void *context) {
  const int saved_errno = errno;
  const std::uint64_t begin = now_ns();
  Board *const board = the_board.load();
  const auto value = reinterpret_cast<std::uintptr_t>(info->si_value.sival_ptr);
  const std::size_t index = value % Board::kRecords;
  board->inside.fetch_add(1);
  std::uint32_t expected = asked;
  // Somebody else's signal, or a question that is over.
  if (info->si_code == SI_QUEUE && board->generation.load() == value / Board::kRecords && index < Board::kRecords &&
      board->records[index].state.compare_exchange_strong(expected, answering)) {
    Record &record = board->records[index];
    const std::uint32_t answer = check(*board, record, *static_cast<ucontext_t *>(context));
    record.held_ns = now_ns() - begin;
    record.state.store(answer);
    board->answers.fetch_add(1);
    wake(board->answers);
  }
  board->inside.fetch_sub(1);
  errno = saved_errno;
}

bool make_board() {
  if (the_board.load() != nullptr) return true;
  void *memory = sys::map_anonymous(sizeof(Board), false);
  if (memory == nullptr) return false;
  the_board.store(static_cast<Board *>(memory));  // zero bytes are its beginning
  return true;
}

/// False when none came.
bool wait_for_answers(std::uint32_t seen) {
  const timespec at_most = {0, 1'000'000};  // who falls asleep or ends does not answer
  const long woken =
      sys::call(SYS_futex, &the_board.load()->answers, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, seen, &at_most, nullptr, 0);
  return woken == 0 || errno != ETIMEDOUT;
}

bool lives(int id) { return sys::call(SYS_tgkill, sys::call(SYS_getpid), id, 0) == 0 || errno != ESRCH; }

}  // namespace

// ---- before and after

bool Question::open(int needed, std::uint64_t deadline, Obstacle &obstacle) {
  obstacle = {};
  obstacle.why = "no memory to note the threads";
  if (!make_board() || !buffer_.reserve(std::size_t{8} << 10)) return false;
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
    wait_for_answers(the_board.load()->answers.load());
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
      return true;
    }
  }
  return false;
}

void Question::close() {
  if (signal_ == 0) return;
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

void Question::after_fork_in_child() {
  if (Board *const board = the_board.load()) board->inside.store(0);
}

// ---- asking

bool Question::ask(std::span<const CodeRange> some, std::uintptr_t own_sp, std::uint64_t deadline, Passing &passing,
                   Obstacle &obstacle) {
  const CodeRanges ranges(some);
  Board &board = *the_board.load();
  threads_.clear();
  if (!list(deadline, obstacle) || !add_threads(obstacle)) return false;
  passing.threads = static_cast<std::uint32_t>(threads_.size());
  board.ranges = &ranges;
  board.stacks = &stacks_;
  for (Record &record : board.records) record.state.store(free_for_use);
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
      obstacle = {thread.id, thread.at, thread.why};
    }
    if (has_everybody || now_ns() >= deadline) break;
    is_overdue = !wait_for_answers(seen);
  }

  // From here on nobody begins to answer; who is answering is waited for, since the ranges go away.
  board.generation.fetch_add(1);
  while (board.inside.load() != 0) sys::call(SYS_sched_yield);
  for (Thread &thread : threads_)
    if (!thread.has_passed && thread.record >= 0) take_answer(thread, passing);
  return has_everybody;
}

bool Question::add_threads(Obstacle &obstacle) {
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

/// The asking thread stands elsewhere. Only its callers can return into the ranges.
void Question::ask_self(Thread &thread, const CodeRanges &ranges, std::uintptr_t sp) {
  const std::uintptr_t end = stacks_.end_of(sp);
  const Scan scan = end == 0 ? Scan::failed : scan_stack(ranges, sp, end, {buffer_.data(), buffer_.size()}, thread.at);
  thread.has_passed = scan == Scan::clean;
  thread.why = scan == Scan::found ? kReturnsThere : kStackUnknown;
}

/// Seen asleep elsewhere, or asked.
void Question::look_at(Thread &thread, const CodeRanges &ranges, Passing &passing) {
  const Standing standing = standing_of(thread.id);
  thread.at = standing.pc;
  switch (standing.doing) {
    case Standing::Doing::gone:
      thread.has_passed = true;
      return;
    case Standing::Doing::forking:
      thread.why = "waits for a child that shares its memory (vfork)";
      return;
    case Standing::Doing::running:
    case Standing::Doing::unknown:
      return send(thread);
    case Standing::Doing::asleep:
      break;
  }
  // A system call that is begun again is begun before where its thread stands now.
  const bool stands_there = ranges.moved(standing.pc) != standing.pc ||
                            (standing.in_call && ranges.moved(standing.pc - NativeContext::kSystemCall) !=
                                                     standing.pc - NativeContext::kSystemCall);
  if (stands_there) return send(thread);
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
    send(thread);
  }
}

void Question::send(Thread &thread) {
  if (thread.record >= 0) return;
  // Looked at only where somebody blocked it from the start: our own handlers block it for a moment.
  std::uint64_t mask = 0;
  if (blocks(blocked_by_some_, signal_) && blocked_signals(thread.id, mask) && blocks(mask, signal_)) {
    thread.why = "blocks all signals that it could be asked with, and was not seen asleep outside";
    return;
  }
  Board &board = *the_board.load();
  for (std::size_t k = 0; k < Board::kRecords; ++k) {
    std::uint32_t expected = free_for_use;
    if (!board.records[k].state.compare_exchange_strong(expected, asked)) continue;
    siginfo_t info = {};
    info.si_signo = signal_;
    info.si_code = SI_QUEUE;
    info.si_pid = static_cast<pid_t>(sys::call(SYS_getpid));
    info.si_uid = static_cast<uid_t>(sys::call(SYS_getuid));
    info.si_value.sival_ptr = reinterpret_cast<void *>(board.generation.load() * Board::kRecords + k);
    thread.why = "does not answer";
    if (sys::call(SYS_rt_tgsigqueueinfo, info.si_pid, thread.id, signal_, &info) == 0) {
      thread.record = static_cast<int>(k);
    } else {
      thread.has_passed = errno == ESRCH;
      thread.why = "cannot be sent a signal";
      board.records[k].state.store(free_for_use);
    }
    return;
  }
}

void Question::take_answer(Thread &thread, Passing &passing) {
  Record &record = the_board.load()->records[thread.record];
  const std::uint32_t state = record.state.load();
  if (state == answering) return;
  if (state == asked) {
    if (!lives(thread.id)) {
      thread.has_passed = true;
      forget(thread);
    }
    return;
  }
  passing.asked += 1;
  passing.moved += state == was_moved ? 1 : 0;
  passing.longest_hold_ns = std::max(passing.longest_hold_ns, record.held_ns);
  thread.has_passed = state != in_the_way;
  thread.at = record.at;
  thread.why = record.why;
  forget(thread);
}

void Question::forget(Thread &thread) {
  the_board.load()->records[thread.record].state.store(free_for_use);
  thread.record = -1;
}

}  // namespace shunt::core
