// interrupted.hpp: what a signal of ours does to a system call that a thread sleeps in, and how it is made good.
//
// A signal handler ends most calls that sleep. Some of them the kernel makes again by itself, since our handler has SA_RESTART. The
// others fail with EINTR: applications notice, and many do not expect it. So the handler of a question makes such a call
// again: the number back in its register, the program counter back at the instruction. Which calls these are, after signal(7),
// "Interruption of system calls":
//
//   call                                        the kernel      we
//   read readv recv* accept* wait4 waitid       again           nothing to do
//   flock fcntl open* connect getrandom         again           nothing to do
//   futex: without a timeout                    again           nothing to do
//   the sockets' calls, with SO_RCVTIMEO or     EINTR           again, with the whole timeout
//     SO_SNDTIMEO; recvmmsg with a timeout
//   futex: FUTEX_WAIT with a timeout            EINTR           again, with the whole timeout
//   futex: all others, whose timeouts are       EINTR           again: exactly as it was
//     times of the clock
//   epoll_wait epoll_pwait epoll_pwait2 poll    EINTR           again; a finite timeout is the whole one
//   select pselect6 ppoll                       EINTR           again: the kernel has put what is left of the timeout
//                                                               where the timeout was
//   pause sigsuspend sigwaitinfo semop msgrcv   EINTR           again: exactly as it was
//     msgsnd io_uring_enter that only waits
//   sigtimedwait semtimedop io_getevents        EINTR           again; a finite timeout is the whole one
//   nanosleep clock_nanosleep                   EINTR           again, with the whole time; exactly as it was with
//                                                               TIMER_ABSTIME
//   write* send* sendfile splice and others     a short count,  nothing: part of it may be done
//     that move bytes out; recv with WAITALL    or again
//   ioctl: its driver decides                   whatever it is  nothing
//   close and all that is not listed            whatever it is  nothing
//
// With the whole timeout a call would last longer than it should by the time that it has slept already, which nobody knows. So a
// thread that sleeps in such a call is not disturbed, but when it was seen elsewhere a moment ago (question.cpp); and where a
// signal comes upon it that was sent while it ran, it has just begun. It lasts longer by that moment, once. It is never shorter.
// Nobody who sleeps in a call of the last three rows is disturbed.
//
// A signal of the application's own that comes with ours ends the call as it would have without us: where one waits to be delivered,
// what the kernel decided stays. Nothing is sent to who blocks it, in a handler that returns into the end of
// a call, nor to who waits for it in sigwaitinfo() or sigtimedwait() with a set of all signals.
#pragma once

#include <ucontext.h>

#include <cstdint>

namespace shunt::core {

/// A call that a thread sleeps in, as /proc/self/task/TID/syscall shows it.
struct SystemCall {
  long number = -1;  // -1: none
  std::uintptr_t arguments[6] = {};
};

/// What becomes of a call when a signal of ours is handled.
enum class Again : std::uint8_t {
  noticed,  // may be: it is not made again, or part of it is done
  whole,    // it is made again with the whole of its timeout
  exact,    // nobody notices
};

/// Of a call that a thread sleeps in.
Again again(const SystemCall &call);

/// "epoll_wait"; "a system call" for those that are not in the list above.
const char *call_name(long number);

/// For the handler: where the thread was interrupted in a call that the kernel lets fail, it is made again. `seen`: the call that it was
/// seen to sleep in with this program counter and stack pointer before it was sent the signal, number -1 if it was not.
void make_again(ucontext_t &context, const SystemCall &seen, std::uintptr_t seen_pc, std::uintptr_t seen_sp);

}  // namespace shunt::core
