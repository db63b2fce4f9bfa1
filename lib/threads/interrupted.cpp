#include "threads/interrupted.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>

#include <cerrno>

#include "arch/native_context.hpp"
#include "base/syscalls.hpp"

namespace shunt::core {
namespace {

using arch::NativeContext;

enum class Kind : std::uint8_t {
  restarted,   // by the kernel
  receives,    // by the kernel, unless its socket has a timeout
  connects,    // the same, the timeout for sending
  endless,     // without a timeout, or with one that the kernel keeps
  timeout_ms,  // an int, negative: none; `argument` is its place
  timeout,     // a pointer, NULL: none
  relative,    // a time to sleep
  until,       // a time to sleep; with TIMER_ABSTIME as `argument` says, a time of the clock
  futex,
  ring,
  unknown,
};

struct Row {
  long number;
  const char *name;
  Kind kind;
  std::uint8_t argument;
};

constexpr Row kRows[] = {
    {SYS_read, "read", Kind::receives, 0},
    {SYS_readv, "readv", Kind::receives, 0},
    {SYS_recvfrom, "recvfrom", Kind::receives, 0},
    {SYS_recvmsg, "recvmsg", Kind::receives, 0},
    {SYS_recvmmsg, "recvmmsg", Kind::timeout, 4},
    {SYS_accept, "accept", Kind::receives, 0},
    {SYS_accept4, "accept4", Kind::receives, 0},
    {SYS_connect, "connect", Kind::connects, 0},
    {SYS_wait4, "wait4", Kind::restarted, 0},
    {SYS_waitid, "waitid", Kind::restarted, 0},
    {SYS_flock, "flock", Kind::restarted, 0},
    {SYS_fcntl, "fcntl", Kind::restarted, 0},
    {SYS_openat, "openat", Kind::restarted, 0},
    {SYS_ioctl, "ioctl", Kind::unknown, 0},
    {SYS_getrandom, "getrandom", Kind::restarted, 0},
    {SYS_futex, "futex", Kind::futex, 3},
    {SYS_epoll_pwait, "epoll_pwait", Kind::timeout_ms, 3},
#ifdef SYS_epoll_pwait2
    {SYS_epoll_pwait2, "epoll_pwait2", Kind::timeout, 3},
#endif
    {SYS_pselect6, "pselect6", Kind::endless, 0},
    {SYS_ppoll, "ppoll", Kind::endless, 0},
    {SYS_rt_sigsuspend, "sigsuspend", Kind::endless, 0},
    {SYS_rt_sigtimedwait, "sigtimedwait", Kind::timeout, 2},
    {SYS_semop, "semop", Kind::endless, 0},
    {SYS_semtimedop, "semtimedop", Kind::timeout, 3},
    {SYS_msgrcv, "msgrcv", Kind::endless, 0},
    {SYS_msgsnd, "msgsnd", Kind::endless, 0},
    {SYS_mq_timedreceive, "mq_receive", Kind::restarted, 0},
    {SYS_io_getevents, "io_getevents", Kind::timeout, 4},
    {SYS_nanosleep, "nanosleep", Kind::relative, 0},
    {SYS_clock_nanosleep, "clock_nanosleep", Kind::until, 1},
#ifdef SYS_io_uring_enter
    {SYS_io_uring_enter, "io_uring_enter", Kind::ring, 1},
#endif
// What newer architectures leave to the calls above.
#ifdef SYS_open
    {SYS_open, "open", Kind::restarted, 0},
#endif
#ifdef SYS_epoll_wait
    {SYS_epoll_wait, "epoll_wait", Kind::timeout_ms, 3},
#endif
#ifdef SYS_poll
    {SYS_poll, "poll", Kind::timeout_ms, 2},
#endif
#ifdef SYS_select
    {SYS_select, "select", Kind::endless, 0},
#endif
#ifdef SYS_pause
    {SYS_pause, "pause", Kind::endless, 0},
#endif
};

const Row *row_of(long number) {
  for (const Row &row : kRows)
    if (row.number == number) return &row;
  return nullptr;
}

Again again_futex(const SystemCall &call, std::uintptr_t timeout) {
  // FUTEX_WAIT alone sleeps for a time, the others until a time; futex(2).
  const bool is_wait = (static_cast<int>(call.arguments[1]) & FUTEX_CMD_MASK) == FUTEX_WAIT;
  return is_wait && timeout != 0 ? Again::whole : Again::exact;
}

/// What is not to be known from the call alone.
Again again_socket(const SystemCall &call, int option) {
  // With MSG_WAITALL some of it may have come already; the flags are the fourth argument, or the third.
  const std::uintptr_t flags = call.number == SYS_recvfrom  ? call.arguments[3]
                               : call.number == SYS_recvmsg ? call.arguments[2]
                                                            : 0;
  if ((flags & MSG_WAITALL) != 0) return Again::noticed;
  timeval timeout = {};
  socklen_t size = sizeof timeout;
  const long failed =
      sys::call(SYS_getsockopt, static_cast<int>(call.arguments[0]), SOL_SOCKET, option, &timeout, &size);
  return failed == 0 && (timeout.tv_sec != 0 || timeout.tv_usec != 0) ? Again::whole : Again::exact;
}

/// Of a call that failed with EINTR, so none is Kind::restarted.
Again again_failed(const SystemCall &call, const Row &row) {
  const std::uintptr_t argument = call.arguments[row.argument];
  switch (row.kind) {
    case Kind::restarted:
    case Kind::unknown:
      return Again::noticed;
    case Kind::receives:
    case Kind::connects:
    case Kind::relative:
      return Again::whole;
    case Kind::endless:
      return Again::exact;
    case Kind::timeout_ms:
      return static_cast<int>(argument) < 0 ? Again::exact : Again::whole;
    case Kind::timeout:
      return argument == 0 ? Again::exact : Again::whole;
    case Kind::until:
      return (argument & TIMER_ABSTIME) != 0 ? Again::exact : Again::whole;
    case Kind::futex:
      return again_futex(call, argument);
    case Kind::ring: {
      // What it was to submit is submitted already. Behind IORING_ENTER_EXT_ARG (bit 3) there may be a timeout.
      if (argument != 0) return Again::noticed;
      constexpr std::uintptr_t kHasMore = 8;
      return (call.arguments[3] & kHasMore) != 0 ? Again::whole : Again::exact;
    }
  }
  return Again::noticed;
}

/// A signal of the application that will be handled as soon as the interrupted thread's mask is back.
bool has_other_signal(const ucontext_t &context) {
  constexpr std::size_t kMaskBytes = 8;
  std::uint64_t pending = 0, mask = 0;
  if (sys::call(SYS_rt_sigpending, &pending, kMaskBytes) != 0) return false;
  static_assert(sizeof context.uc_sigmask >= kMaskBytes);
  __builtin_memcpy(&mask, &context.uc_sigmask, kMaskBytes);
  pending &= ~mask;
  for (int signal = 1; pending != 0; ++signal, pending >>= 1) {
    if ((pending & 1) == 0) continue;
    // The kernel's struct sigaction begins with the handler; which one is enough here, and it is no longer than this.
    std::uintptr_t action[8] = {};
    if (sys::call(SYS_rt_sigaction, signal, nullptr, action, kMaskBytes) != 0) continue;
    if (action[0] != reinterpret_cast<std::uintptr_t>(SIG_DFL) &&
        action[0] != reinterpret_cast<std::uintptr_t>(SIG_IGN))
      return true;
  }
  return false;
}

}  // namespace

Again again(const SystemCall &call) {
  const Row *const row = row_of(call.number);
  if (row == nullptr) return Again::noticed;
  if (row->kind == Kind::restarted) return Again::exact;
  if (row->kind == Kind::receives) return again_socket(call, SO_RCVTIMEO);
  if (row->kind == Kind::connects) return again_socket(call, SO_SNDTIMEO);
  return again_failed(call, *row);
}

const char *call_name(long number) {
  const Row *const row = row_of(number);
  return row != nullptr ? row->name : "a system call";
}

void make_again(ucontext_t &context, const SystemCall &seen, std::uintptr_t seen_pc, std::uintptr_t seen_sp) {
  if (!NativeContext::was_interrupted(context)) return;
  const std::uintptr_t pc = NativeContext::pc(context);
  std::uint8_t code[NativeContext::kCallBytes];
  const iovec to = {code, sizeof code};
  const iovec from = {reinterpret_cast<void *>(pc - sizeof code), sizeof code};
  if (sys::call(SYS_process_vm_readv, sys::call(SYS_getpid), &to, 1, &from, 1, 0) != static_cast<long>(sizeof code) ||
      !NativeContext::is_call(code))
    return;
  const bool was_seen = seen.number >= 0 && seen_pc == pc && seen_sp == NativeContext::sp(context);
  if (NativeContext::kResultIsArgument && !was_seen) return;
  SystemCall call = seen;
  if (!was_seen) {
    call.number = NativeContext::call_number(code, context);
    for (std::size_t k = 0; k < 6; ++k) call.arguments[k] = NativeContext::argument(context, k);
  }
  const Row *const row = row_of(call.number);
  if (row == nullptr || again_failed(call, *row) == Again::noticed || has_other_signal(context)) return;
  NativeContext::call_again(context, call.number, call.arguments[0]);
}

}  // namespace shunt::core
