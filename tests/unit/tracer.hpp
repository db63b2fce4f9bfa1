// tracer.hpp: holds a thread of this process at an instruction, from a child process that traces it.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace unit {

class Tracer {
 public:
  explicit Tracer(int thread) : thread_(thread) {
    if (pipe2(to_child_, O_CLOEXEC) != 0 || pipe2(to_parent_, O_CLOEXEC) != 0) std::abort();
    const pid_t parent = getpid();
    child_ = fork();
    if (child_ == 0) {
      close(to_child_[1]);  // the parent's end is the child's
      run(parent);
    }
    close(to_child_[0]);
    close(to_parent_[1]);
    prctl(PR_SET_PTRACER, child_);
    ask({'a', 0});
  }
  Tracer(const Tracer &) = delete;
  Tracer &operator=(const Tracer &) = delete;
  ~Tracer() {
    close(to_child_[1]);
    close(to_parent_[0]);
    waitpid(child_, nullptr, 0);
  }

  /// Lets the thread run one instruction at a time until it stands at `address`. False when it cannot be traced.
  bool hold(std::uintptr_t address) { return ask({'h', address}); }
  /// The thread goes on, with a signal.
  bool release(int signal = 0) { return ask({'r', static_cast<std::uintptr_t>(signal)}); }
  /// The thread goes on as soon as a signal waits for it; or else with done().
  void release_when_asked() { tell({'w', 0}); }
  bool done() { return ask({'d', 0}); }

 private:
  struct Command {
    char what;
    std::uintptr_t value;
  };

  void tell(const Command &command) {
    if (write(to_child_[1], &command, sizeof command) != sizeof command) std::abort();
  }
  bool ask(const Command &command) {
    tell(command);
    bool answer = false;
    return read(to_parent_[0], &answer, 1) == 1 && answer;
  }

  // ---- the child

  [[noreturn]] void run(pid_t parent) {
    Command command;
    while (read(to_child_[0], &command, sizeof command) == sizeof command) {
      bool answer = true;
      switch (command.what) {
        case 'h':
          answer = step_to(command.value);
          break;
        case 'r':
        case 'd':
          if (is_held_) answer = detach(static_cast<int>(command.value));
          break;
        case 'w':
          wait_for_signal(parent);
          continue;
        default:
          break;
      }
      if (write(to_parent_[1], &answer, 1) != 1) _exit(1);
    }
    _exit(0);
  }

  bool step_to(std::uintptr_t address) {
    if (ptrace(PTRACE_SEIZE, thread_, nullptr, nullptr) != 0 ||
        ptrace(PTRACE_INTERRUPT, thread_, nullptr, nullptr) != 0)
      return false;
    is_held_ = true;
    int status = 0;
    if (waitpid(thread_, &status, __WALL) != thread_) return false;
    for (int steps = 0; steps < 1'000'000; ++steps) {
      user_regs_struct registers = {};
      if (ptrace(PTRACE_GETREGS, thread_, nullptr, &registers) != 0) return false;
      if (registers.rip == address) return true;
      const int signal = WIFSTOPPED(status) && status >> 16 == 0 && WSTOPSIG(status) != SIGTRAP ? WSTOPSIG(status) : 0;
      if (ptrace(PTRACE_SINGLESTEP, thread_, nullptr, signal) != 0) return false;
      if (waitpid(thread_, &status, __WALL) != thread_) return false;
    }
    return false;
  }

  bool detach(int signal) {
    is_held_ = false;
    return ptrace(PTRACE_DETACH, thread_, nullptr, signal) == 0;
  }

  void wait_for_signal(pid_t parent) {
    char path[64];
    std::snprintf(path, sizeof path, "/proc/%d/task/%d/status", parent, thread_);
    for (;;) {
      pollfd order = {to_child_[0], POLLIN, 0};
      if (poll(&order, 1, 0) > 0) return;
      char text[4096] = {};
      const int file = open(path, O_RDONLY);
      const ssize_t size = read(file, text, sizeof text - 1);
      close(file);
      const char *const line = size > 0 ? std::strstr(text, "\nSigPnd:") : nullptr;
      if (line != nullptr && std::strtoull(line + 8, nullptr, 16) != 0) {
        detach(0);
        return;
      }
      sched_yield();
    }
  }

  const int thread_;
  pid_t child_ = -1;
  int to_child_[2] = {-1, -1}, to_parent_[2] = {-1, -1};
  bool is_held_ = false;
};

}  // namespace unit
