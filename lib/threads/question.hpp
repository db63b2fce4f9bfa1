// question.hpp: asks every thread of the process once whether it is in some ranges of code, or will return into them, and moves
// those that are in them and can be moved.
//
// Nobody can newly get into the ranges when this begins: their entry leads elsewhere (lib/entry). So each thread must be seen
// outside once, at a time of its own:
//   asleep in the kernel   is seen from outside, together with its stack; it is not disturbed. It has not run in between, or that
//                          look does not count.
//   running                is sent a signal. The check runs in the signal's handler, in the thread itself; the thread goes on
//                          as soon as its own check is over, and waits for nobody.
// A thread that is in the way and cannot be moved (it will return there, or is in a handler of its own that will) is asked again,
// until the deadline. A thread that can neither be asked, since it blocks the signal, nor be seen asleep is in the way too.
//
// The signal is a real-time signal that the application neither handles nor blocks. Its handler is installed while this object lives;
// what is still under way then is discarded by the kernel, when the signal is ignored for a moment.
//
// One question at a time: the caller sees to that.
#pragma once

#include <signal.h>

#include <cstdint>
#include <span>

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

  /// True when every thread has passed. Of the caller's own stack counts what lies above `own_sp`: below it are frames of ours, which
  /// hold such addresses without being about to return there.
  bool ask(std::span<const CodeRange> ranges, std::uintptr_t own_sp, std::uint64_t deadline, Passing &passing,
           Obstacle &obstacle);

  /// Takes the handler away. The destructor does it too.
  void close();

  /// In the child of a fork, which no question was under way in: who was late in the handler then is not here to leave it.
  static void after_fork_in_child();

 private:
  struct Thread {
    int id = 0;
    int record = -1;  // its question is under way
    bool has_passed = false;
    std::uintptr_t at = 0;
    const char *why = "cannot be asked";
  };

  bool list(std::uint64_t deadline, Obstacle &obstacle);
  bool add_threads(Obstacle &obstacle);
  bool install();
  void ask_self(Thread &thread, const CodeRanges &ranges, std::uintptr_t sp);
  void look_at(Thread &thread, const CodeRanges &ranges, Passing &passing);
  void take_answer(Thread &thread, Passing &passing);
  void send(Thread &thread);
  void forget(Thread &thread);

  ThreadList list_;
  PageVector<Thread> threads_;
  PageVector<std::uintptr_t> buffer_;
  Stacks stacks_;
  std::uint64_t blocked_by_some_ = 0;
  int signal_ = 0;
  struct sigaction before_ = {};
};

}  // namespace shunt::core
