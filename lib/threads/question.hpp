// question.hpp: asks every thread of the process whether it is in the way of a change of code. There are two manners of asking.
//
// is_outside, for code that is changed and stays: whether a thread is in some ranges of code, or will return into them; those that are
// in them and can be moved are moved. Nobody can newly get into the ranges when this begins: their entry leads elsewhere (lib/entry). So
// each thread must be seen outside once, at a time of its own:
//   asleep in the kernel   is seen from outside, together with its stack; it is not disturbed. It has not run in between, or that
//                          look does not count.
//   running                is sent a signal. The check runs in the signal's handler, in the thread itself; the thread goes on
//                          as soon as its own check is over, and waits for nobody.
//
// holds_nothing, for code that goes away: whether a thread has so much as an address in it, in a general register or on its stack. A compiler may keep
// a slot's value in a register across a system call, and that cannot be seen from outside. So:
//   asleep since before    the code was loaded: it cannot have one. It is not disturbed.
//   asleep otherwise       is sent the signal where it does not notice it (interrupted.hpp): its call goes on as if nothing had
//                          happened. In a call with a timeout only when that has just begun; else it is in the way until it
//                          has run.
//   running                is sent the signal.
// Nobody gets such an address any more when this begins. So who was seen without one is not asked again, and when all were, threads that were
// started meanwhile are asked too, until there are none.
//
// A thread that is in the way and cannot be moved is asked again, until the deadline; one that was asked is given 200 ms more to
// answer. A thread that can neither be asked, since it blocks the signal, nor be seen asleep is in the way too.
//
// The signal is a real-time signal that the application neither handles nor blocks. Its handler is installed while this object lives;
// what is still under way then is waited for, and at last discarded by the kernel, when the signal is ignored for a moment.
//
// One question at a time: the caller sees to that.
#pragma once

#include <signal.h>

#include <cstdint>
#include <span>

#include "threads/board.hpp"
#include "threads/bystanders.hpp"
#include "threads/code_range.hpp"
#include "threads/stacks.hpp"
#include "threads/standing.hpp"
#include "threads/thread_list.hpp"

namespace shunt::core {

/// What the threads noticed.
struct Passing {
  std::uint32_t threads = 0;          // all of them
  std::uint32_t asleep = 0;           // seen asleep, and not disturbed
  std::uint32_t asked = 0;            // by signal; each time counts
  std::uint32_t moved = 0;            // found in the ranges
  std::uint64_t longest_hold_ns = 0;  // the longest time that one of them was in the handler
};

/// A thread that is in the way, or why nothing could be asked (thread 0).
struct Obstacle {
  int thread = 0;
  std::uintptr_t at = 0;  // where it stands, or will return to; 0: unknown
  const char *why = "";   // "blocks ..."
  long call = -1;         // it sleeps in this system call, and that is why
};

class Question {
 public:
  Question() = default;
  Question(const Question &) = delete;
  Question &operator=(const Question &) = delete;
  ~Question() { close(); }

  /// Has everything ready: nothing after this needs memory that may be refused, unless threads are started meanwhile. Waits until
  /// `deadline` for a moment at which no thread blocks `needed`, a signal that threads will have to handle.
  bool open(int needed, std::uint64_t deadline, Obstacle &obstacle);

  /// Manner::is_outside. True when every thread has passed. Of the caller's own stack counts what lies above `own_sp`: below it are
  /// frames of ours, which hold such addresses without being about to return there.
  bool ask(std::span<const CodeRange> ranges, std::uintptr_t own_sp, std::uint64_t deadline, Passing &passing,
           Obstacle &obstacle);

  /// The caller runs nothing but code of shunt, which holds no address in a patch.
  static constexpr std::uintptr_t kOwnThread = UINTPTR_MAX;
  /// Manner::holds_nothing. `own_sp` as above, or kOwnThread.
  bool ask_whether_free(const CodeRange &code, Bystanders &bystanders, std::uintptr_t own_sp, std::uint64_t deadline,
                        Passing &passing, Obstacle &obstacle);
  /// Those that were in the way when it was asked last.
  template <class Visit>
  void visit_left(Visit visit) const {
    for (const Thread &thread : threads_)
      if (!thread.has_passed) visit(obstacle_of(thread));
  }
  /// A thread was on a stack that nobody but the program knows: there are coroutines, and those that no thread runs on cannot be seen.
  [[nodiscard]] bool has_seen_coroutine() const { return has_seen_coroutine_; }

  /// Takes the handler away. The destructor does it too.
  void close();

  /// No question is under way then. Who was late in the handler is not in the child to leave it.
  static void before_fork();
  static void after_fork_in_child();

 private:
  struct Thread {
    int id = 0;
    int record = -1;  // its question is under way
    bool has_passed = false;
    std::uintptr_t at = 0;
    const char *why = "cannot be asked";
    long call = -1;
    std::uint64_t started = 0;  // where it is asked whether it holds nothing
    // When it was looked at last, and what was seen; 0: not yet, or it was asked since.
    std::uint64_t looked_at = 0, switches = 0;
    // When it was in the way and answered so; and where it slept.
    std::uint64_t answered_at = 0;
    std::uintptr_t answered_pc = 0, answered_sp = 0;
  };

  bool list(std::uint64_t deadline, Obstacle &obstacle);
  bool add_threads(Obstacle &obstacle);
  bool add_strangers(Obstacle &obstacle);
  bool run(const CodeRanges &ranges, Manner manner, std::uintptr_t own_sp, std::uint64_t deadline, Passing &passing,
           Obstacle &obstacle);
  [[nodiscard]] bool is_too_late(std::uint64_t deadline) const;
  bool install();
  void ask_self(Thread &thread, const CodeRanges &ranges, std::uintptr_t sp);
  void look_at(Thread &thread, const CodeRanges &ranges, Passing &passing);
  void look_whether_outside(Thread &thread, const Standing &standing, const CodeRanges &ranges, Passing &passing);
  void look_whether_it_holds_nothing(Thread &thread, const Standing &standing, Passing &passing);
  [[nodiscard]] bool is_awaited(const SystemCall &call) const;
  bool goes_unnoticed(Thread &thread, const Standing &standing);
  void take_answer(Thread &thread, Passing &passing);
  void send(Thread &thread, const Standing &standing);
  void look_whether_coroutine(Thread &thread, const AskedThread &record);
  void forget(Thread &thread);
  static Obstacle obstacle_of(const Thread &thread) { return {thread.id, thread.at, thread.why, thread.call}; }

  ThreadList list_;
  PageVector<Thread> threads_;
  PageVector<std::uintptr_t> buffer_;
  Stacks stacks_;
  const Bystanders *bystanders_ = nullptr;
  bool has_seen_coroutine_ = false;
  std::uint64_t blocked_by_some_ = 0;
  std::uint32_t answers_before_ = 0, sent_ = 0;
  int signal_ = 0;
  struct sigaction before_ = {};
};

}  // namespace shunt::core
