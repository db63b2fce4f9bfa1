#include "threads/board.hpp"

#include <linux/futex.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "arch/native_context.hpp"
#include "base/syscalls.hpp"
#include "threads/thread_list.hpp"

namespace shunt::core {
namespace {

using arch::NativeContext;

std::atomic<Board *> the_board = nullptr;

// Everything here runs in the thread that was asked. It calls nothing but system calls: whatever it called might be the
// function that changes.

std::uint32_t look_whether_outside(const Board &board, AskedThread &record, ucontext_t &context) {
  const std::uintptr_t pc = NativeContext::pc(context), to = board.ranges->moved(pc);
  record.at = pc;
  record.why = kStandsThere;
  if (to == 0) return AskedThread::in_the_way;
  const std::uintptr_t sp = NativeContext::sp(context), end = board.stacks->end_of(sp);
  record.why = kStackUnknown;
  if (end == 0) return AskedThread::in_the_way;
  const std::uintptr_t link = NativeContext::link(context);
  Scan scan = board.ranges->will_return(link) ? Scan::found : Scan::clean;
  if (scan == Scan::found)
    record.at = link;
  else
    scan = scan_stack(*board.ranges, sp, end, record.buffer, record.at);
  if (scan == Scan::failed) return AskedThread::in_the_way;
  record.why = kReturnsThere;
  // Moved in any case: it is out of the bytes then, and asked again for the rest.
  if (to != pc) NativeContext::set_pc(context, to);
  if (scan == Scan::found) return AskedThread::in_the_way;
  return to == pc ? AskedThread::passed : AskedThread::was_moved;
}

std::uint32_t scan_for_addresses(const Board &board, AskedThread &record, std::uintptr_t from, std::uintptr_t end) {
  const Scan scan = scan_stack(*board.ranges, from, end, record.buffer, record.at);
  record.why = scan == Scan::failed ? kStackUnknown : kHasAddressOnStack;
  return scan == Scan::clean ? AskedThread::passed : AskedThread::in_the_way;
}

/// The thread is in a handler of the application's, on its alternate stack: that, and the stack that it left for it.
std::uint32_t look_at_both_stacks(const Board &board, AskedThread &record, std::uintptr_t sp, std::uintptr_t end) {
  const std::uint32_t here = scan_for_addresses(board, record, sp - NativeContext::kRedZone, end);
  if (here != AskedThread::passed) return here;
  const std::uintptr_t left = board.stacks->lowest_own(sp, end, record.owner, record.buffer);
  record.why = kStackUnknown;
  if (left == 0) return AskedThread::in_the_way;
  return scan_for_addresses(board, record, left - NativeContext::kRedZone, board.stacks->own_end(left, record.owner));
}

/// Vector registers are left out. Where a compiler has addresses in one, it stores them a few instructions later, and
/// no function finds anything in them (psABI, 3.2.1); but what was copied through one by anybody, this thread's parent
/// even, lies there for ever.
std::uint32_t look_whether_it_holds_nothing(const Board &board, AskedThread &record, const ucontext_t &context) {
  for (const auto word : NativeContext::registers(context)) {
    record.at = static_cast<std::uintptr_t>(word);
    record.why = record.at == NativeContext::pc(context) ? kIsInside : kHasAddress;
    if (board.ranges->holds(record.at)) return AskedThread::in_the_way;
  }
  const std::uintptr_t sp = NativeContext::sp(context);
  record.at = NativeContext::pc(context);
  const std::uintptr_t end = board.stacks->own_end(sp, record.owner);
  if (end != 0) return scan_for_addresses(board, record, sp - NativeContext::kRedZone, end);
  const auto alternate = reinterpret_cast<std::uintptr_t>(context.uc_stack.ss_sp);
  if (sp - alternate < context.uc_stack.ss_size)
    return look_at_both_stacks(board, record, sp, alternate + context.uc_stack.ss_size);
  record.foreign_sp = sp;
  record.why = kStackUnknown;
  return AskedThread::in_the_way;
}

void answer(Board &board, AskedThread &record, ucontext_t &context) {
  const std::uint64_t begin = now_ns();
  record.foreign_sp = 0;
  record.owner = StackOwner::self();
  const std::uint32_t state = board.manner == Manner::is_outside
                                  ? look_whether_outside(board, record, context)
                                  : look_whether_it_holds_nothing(board, record, context);
  record.held_ns = now_ns() - begin;
  record.state.store(state);
}

}  // namespace

void on_question(int, siginfo_t *info, void *raw) {
  const int saved_errno = errno;
  auto &context = *static_cast<ucontext_t *>(raw);
  Board *const board = the_board.load();
  if (info->si_code == SI_QUEUE) {  // or somebody else's signal
    const auto value = reinterpret_cast<std::uintptr_t>(info->si_value.sival_ptr);
    AskedThread &record = board->records[value % Board::kRecords];
    board->inside.fetch_add(1);
    std::uint32_t expected = AskedThread::asked;
    if (board->generation.load() == value / Board::kRecords &&
        record.state.compare_exchange_strong(expected, AskedThread::answering)) {
      make_again(context, record.seen, record.seen_pc, record.seen_sp);
      answer(*board, record, context);
    } else {  // the question is over
      make_again(context, {}, 0, 0);
    }
    board->answers.fetch_add(1);
    sys::call(SYS_futex, &board->answers, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, nullptr, nullptr, 0);
    board->inside.fetch_sub(1);
  }
  errno = saved_errno;
}

Board *Board::the() { return the_board.load(); }

bool Board::make() {
  if (the_board.load() != nullptr) return true;
  void *memory = sys::map_anonymous(sizeof(Board), false);
  if (memory == nullptr) return false;
  the_board.store(static_cast<Board *>(memory));  // zero bytes are its beginning
  return true;
}

void *Board::value_of(std::size_t record) const {
  return reinterpret_cast<void *>(std::uintptr_t{generation.load()} * kRecords + record);
}

}  // namespace shunt::core
