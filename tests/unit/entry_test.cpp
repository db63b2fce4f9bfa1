// lib/entry: jumps at the entries of functions, put there and taken out while threads run them. x86-64, since they are run.
//
// Shown to fail (each guard taken out, the test seen to fail, the guard put back); most of them by a crash:
//   …AtEveryBoundaryWhileApplying  change.cpp, add(): arms is always false
//   …ASystemCallIsMoved            question.cpp, check(): does not move; look_at(): without kSystemCall
//   …ACallIsWaitedFor              code_range.hpp, will_return(): without is_returned_to
//   …WillReturnBetweenTheBytes…    x86_64/context.hpp, is_saved_pc(): false
//   …AtAJumpInPadding              change.cpp, settle_padding(): does not ask
//   ChangesManyAtOnceOrNone        change.cpp, set_breakpoints(): does not compare the rest
//   LeavesAlone…                   change.cpp, add(): without the comparison
//   …BlocksAllSignalsIsRefused     question.cpp, open(): does not look for `needed`
//   …TrapHandlers…                 breakpoints.cpp, hand_on(): calls nothing; does not count the depth. install(): only once
#if defined(__x86_64__)
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <random>
#include <thread>

#include "arch/native_code.hpp"
#include "entry/breakpoints.hpp"
#include "entry_code.hpp"
#include "memory/map_lines.hpp"
#include "tracer.hpp"

namespace {

using namespace shunt::core;
using namespace unit;

class EntryTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!arch::NativeCode::ready()) GTEST_SKIP() << "libZydis.so.4.0 is not installed";
  }
  CodePages pages_{4};
  const std::uintptr_t new_function_ = pages_.put(0x3000, plain(2)), newer_function_ = pages_.put(0x3100, plain(3));
  Entries entries_;
};

/// A thread that does something and then waits to be joined; its id.
class Thread {
 public:
  explicit Thread(std::function<void()> work)
      : thread_([this, work = std::move(work)] {
          id_ = sys::thread_id();
          id_.notify_all();
          work();
        }) {
    id_.wait(0);
  }
  ~Thread() { join(); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  [[nodiscard]] int id() const { return id_; }
  void wait_until_asleep() const {
    while (standing_of(id_).doing != Standing::Doing::asleep) sched_yield();
  }
  void wait_until_asleep_in(long number) const {
    char path[64], want[32];
    std::snprintf(path, sizeof path, "/proc/self/task/%d/syscall", id());
    const int size = std::snprintf(want, sizeof want, "%ld ", number);
    for (char text[64] = {};; sched_yield()) {
      const int file = open(path, O_RDONLY);
      const ssize_t got = read(file, text, sizeof text - 1);
      close(file);
      if (got > size && std::strncmp(text, want, static_cast<std::size_t>(size)) == 0) return;
    }
  }

 private:
  std::atomic<int> id_ = 0;
  std::thread thread_;
};

/// A thread that calls a function again and again, and counts the answers that are neither of two.
class Caller {
 public:
  explicit Caller(std::uintptr_t function, int old_answer = 1, int new_answer = 2)
      : thread_([this, function, old_answer, new_answer] {
          while (!stop_) {
            const int answer = call(function);
            if (answer != old_answer && answer != new_answer) ++wrong_;
            last_ = answer;
            ++calls_;
          }
        }) {}
  ~Caller() { stop(); }
  void stop() {
    stop_ = true;
    thread_.join();
  }
  [[nodiscard]] int id() const { return thread_.id(); }
  [[nodiscard]] int wrong() const { return wrong_; }
  [[nodiscard]] std::uint64_t calls() const { return calls_; }
  /// The answer of a call that begins after this.
  int next_answer() {
    for (const std::uint64_t seen = calls_; calls_ - seen < 2;) sched_yield();
    return last_;
  }

 private:
  std::atomic<bool> stop_ = false;
  std::atomic<int> wrong_ = 0, last_ = 0;
  std::atomic<std::uint64_t> calls_ = 0;
  Thread thread_;
};

class Pipe {
 public:
  Pipe() { EXPECT_EQ(pipe2(ends_, O_CLOEXEC), 0); }
  ~Pipe() {
    close(ends_[0]);
    close(ends_[1]);
  }
  void wait() const {
    char byte = 0;
    while (read(ends_[0], &byte, 1) < 0 && errno == EINTR) {
    }
  }
  void let_go() const { EXPECT_EQ(write(ends_[1], "x", 1), 1); }
  [[nodiscard]] int in() const { return ends_[0]; }

 private:
  int ends_[2] = {-1, -1};
};

// ---- what it does

TEST_F(EntryTest, LeadsToTheNewestReplacementAndBack) {
  const std::uintptr_t function = pages_.put(0x100, framed(1));
  Redirected redirected(entries_, target_of(function, 15));
  EXPECT_EQ(call(function), 1);
  EXPECT_EQ(call(redirected.original()), 1);
  ASSERT_TRUE(redirected.lead(new_function_)) << redirected.problem.message;
  EXPECT_EQ(call(function), 2);
  EXPECT_EQ(call(redirected.original()), 1);
  ASSERT_TRUE(redirected.lead(newer_function_));
  EXPECT_EQ(call(function), 3);
  // One jump, to the newest.
  const auto *code = reinterpret_cast<const std::uint8_t *>(function);
  std::int32_t distance = 0;
  std::memcpy(&distance, code + 1, sizeof distance);
  EXPECT_EQ(code[0], 0xe9);
  EXPECT_EQ(function + 5 + static_cast<std::uintptr_t>(distance), newer_function_);
  ASSERT_TRUE(redirected.lead(0));
  EXPECT_EQ(call(function), 1);
  EXPECT_TRUE(pages_.is_as_put());
  EXPECT_EQ(entries_.pages_away(), 0U);
}

TEST_F(EntryTest, GoesByAStubWhereTheReplacementIsFarAway) {
  const std::uintptr_t function = pages_.put(0x100, framed(1));
  CodePages far(1, 0x10000000000);
  const std::uintptr_t far_function = far.put(0x100, plain(4)), other_far = far.put(0x200, plain(5));
  Redirected redirected(entries_, target_of(function, 15));
  for (const std::uintptr_t to : {far_function, other_far, new_function_, far_function}) {
    ASSERT_TRUE(redirected.lead(to)) << redirected.problem.message;
    EXPECT_EQ(call(function), call(to));
  }
  ASSERT_TRUE(redirected.lead(0));
  EXPECT_EQ(call(function), 1);
  EXPECT_TRUE(pages_.is_as_put());
}

TEST_F(EntryTest, ChangesManyAtOnceOrNone) {
  std::vector<std::uintptr_t> functions;
  std::vector<EntryStep> steps;
  Problem problem;
  for (std::size_t k = 0; k < 40; ++k) {
    functions.push_back(pages_.put(0x100 + 0x80 * k, k % 2 == 0 ? framed(1) : plain(1)));
    EntryId id = 0;
    ASSERT_TRUE(entries_.prepare(target_of(functions.back(), k % 2 == 0 ? 15 : 6), id, problem)) << problem.message;
    steps.push_back({id, new_function_});
  }
  ASSERT_TRUE(entries_.write_trampolines(problem)) << problem.message;
  EntryReport report;
  ASSERT_TRUE(entries_.commit(steps, kPatient, report, problem)) << problem.message;
  for (const std::uintptr_t function : functions) EXPECT_EQ(call(function), 2);
  ASSERT_TRUE(entries_.undo(steps, kPatient, problem)) << problem.message;
  EXPECT_TRUE(pages_.is_as_put());

  // Somebody changes one of them: behind the bytes that a jump takes, among those that it displaces.
  const std::uintptr_t page = functions[38] / 4096 * 4096;
  ASSERT_EQ(mprotect(reinterpret_cast<void *>(page), 4096, PROT_READ | PROT_WRITE), 0);
  reinterpret_cast<std::uint8_t *>(functions[38])[5] = 7;
  ASSERT_EQ(mprotect(reinterpret_cast<void *>(page), 4096, PROT_READ | PROT_EXEC), 0);
  for (EntryStep &step : steps) step.target = new_function_;
  EXPECT_FALSE(entries_.commit(steps, kPatient, report, problem));
  EXPECT_EQ(problem.code, Code::code_changed) << problem.message;
  for (const std::uintptr_t function : functions) EXPECT_EQ(call(function), function == functions[38] ? 7 : 1);
}

TEST_F(EntryTest, LeavesAloneWhatSomebodyElsePutThere) {
  const std::uintptr_t function = pages_.put(0x100, framed(1));
  Redirected redirected(entries_, target_of(function, 15));
  ASSERT_TRUE(redirected.lead(new_function_));
  const std::uintptr_t page = function / 4096 * 4096;
  ASSERT_EQ(mprotect(reinterpret_cast<void *>(page), 4096, PROT_READ | PROT_WRITE), 0);
  std::memcpy(reinterpret_cast<void *>(function), plain(9).data(), 6);
  ASSERT_EQ(mprotect(reinterpret_cast<void *>(page), 4096, PROT_READ | PROT_EXEC), 0);
  ASSERT_TRUE(redirected.lead(0)) << redirected.problem.message;
  EXPECT_EQ(redirected.report.conflicts, 1U);
  EXPECT_EQ(call(function), 9);
}

TEST_F(EntryTest, KeepsTheTrampolineForTheNextTime) {
  const std::uintptr_t function = pages_.put(0x100, framed(1));
  std::uintptr_t first = 0;
  for (int k = 0; k < 100; ++k) {
    Redirected redirected(entries_, target_of(function, 15));
    if (k == 0) first = redirected.original();
    EXPECT_EQ(redirected.original(), first);
    ASSERT_TRUE(redirected.lead(new_function_));
    ASSERT_TRUE(redirected.lead(0));
  }
  EXPECT_EQ(entries_.trampoline_blocks(), 1U);
  Obstacle obstacle;
  EXPECT_EQ(entries_.drop_idle(kPatient, obstacle), 1U) << obstacle.why;
  EXPECT_EQ(entries_.trampoline_blocks(), 0U);
  EXPECT_EQ(call(function), 1);
}

/// A plugin that is loaded, redirected and unloaded again and again takes no more than once. (Without is_free a record more each time;
/// without give_back() in forget() a trampoline more.)
TEST_F(EntryTest, ForgetsWithoutATrace) {
  const std::uintptr_t stays = pages_.put(0x400, framed(1));
  Redirected standing(entries_, target_of(stays, 15));
  ASSERT_TRUE(standing.lead(new_function_));
  EntryId id = 0;
  for (int k = 0; k < 3000; ++k) {
    const std::uintptr_t function = pages_.put(0x100, framed(1));
    Problem problem;
    const EntryTarget target = target_of(function, 15);
    ASSERT_TRUE(entries_.prepare(target, id, problem) && entries_.write_trampolines(problem)) << problem.message;
    EXPECT_EQ(id, 1U);
    if (k % 3 != 0) {
      EntryStep step = {id, new_function_};
      EntryReport report;
      ASSERT_TRUE(entries_.commit({&step, 1}, kPatient, report, problem)) << problem.message;
      EXPECT_EQ(call(function), 2);
      step.target = 0;
      if (k % 3 == 1) {
        ASSERT_TRUE(entries_.commit({&step, 1}, kPatient, report, problem)) << problem.message;
      }
    }
    entries_.forget(function, function + 15);
  }
  EXPECT_EQ(entries_.trampoline_blocks(), 1U);
  EXPECT_EQ(call(stays), 2);
  ASSERT_TRUE(standing.lead(0));
}

TEST_F(EntryTest, RefusesWhatCannotBecomeAJump) {
  const std::uintptr_t function = pages_.put(0x100, {0xc3, 0x55, 0xc3});
  EntryId id = 0;
  Problem problem;
  EXPECT_FALSE(entries_.prepare(target_of(function, 1), id, problem));
  EXPECT_EQ(problem.code, Code::entry_refused);
  EXPECT_NE(std::strstr(problem.message, "'function' in libtest.so"), nullptr) << problem.message;
  EXPECT_NE(std::strstr(problem.message, "too short"), nullptr) << problem.message;
}

// ---- e20: a thread at every instruction boundary

TEST_F(EntryTest, AThreadAtEveryBoundaryWhileApplying) {
  const std::uintptr_t function = pages_.put(0x100, framed(1));
  for (const std::uint32_t offset : {0U, 1U, 4U, 9U, 12U, 13U, 14U}) {
    SCOPED_TRACE(offset);
    Redirected redirected(entries_, target_of(function, 15));
    Caller caller(function);
    Tracer tracer(caller.id());
    if (!tracer.hold(function + offset)) GTEST_SKIP() << "threads cannot be traced here";
    tracer.release_when_asked();
    ASSERT_TRUE(redirected.lead(new_function_)) << redirected.problem.message;
    EXPECT_TRUE(tracer.done());
    EXPECT_EQ(redirected.report.passing.moved, offset == 1 || offset == 4 ? 1U : 0U);
    EXPECT_EQ(caller.next_answer(), 2);
    ASSERT_TRUE(redirected.lead(0)) << redirected.problem.message;
    EXPECT_EQ(caller.next_answer(), 1);
    EXPECT_EQ(caller.wrong(), 0);
  }
  EXPECT_TRUE(pages_.is_as_put());
}

TEST_F(EntryTest, AThreadAtEveryBoundaryWhileReverting) {
  const std::uintptr_t function = pages_.put(0x100, framed(1));
  Redirected redirected(entries_, target_of(function, 15));
  const std::uintptr_t trampoline = redirected.original();
  // The jump, the replacement, and the trampoline, which a replacement of its own calls.
  const std::uintptr_t through =
      pages_.put(0x3200, {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0});  // mov rax, …; jmp rax
  Bytes jump = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0};
  std::memcpy(jump.data() + 2, &trampoline, 8);
  pages_.put(0x3200, jump);
  for (const std::uintptr_t at : {function, through, through + 10, trampoline, trampoline + 1, trampoline + 4,
                                  trampoline + 9, function + 9, function + 14}) {
    SCOPED_TRACE(at - (at >= trampoline && at < trampoline + 64 ? trampoline : function));
    ASSERT_TRUE(redirected.lead(through)) << redirected.problem.message;
    Caller caller(function);
    Tracer tracer(caller.id());
    if (!tracer.hold(at)) GTEST_SKIP() << "threads cannot be traced here";
    tracer.release_when_asked();
    ASSERT_TRUE(redirected.lead(0)) << redirected.problem.message;
    EXPECT_TRUE(tracer.done());
    EXPECT_EQ(caller.next_answer(), 1);
    EXPECT_EQ(caller.wrong(), 0);
    EXPECT_TRUE(pages_.is_as_put());
  }
}

TEST_F(EntryTest, AThreadAtAJumpInPadding) {
  // A NOP of ten bytes before the function, of which the jump takes the last five: whoever stands at it must not run what was there.
  const Bytes nop = {0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0};
  Bytes code = nop;
  const Bytes body = {0x66, 0x90, 0xb8, 1, 0, 0, 0, 0xc3};  // a NOP of two bytes; mov eax, 1; ret
  code.insert(code.end(), body.begin(), body.end());
  const std::uintptr_t function = pages_.put(0x100, code) + nop.size();
  Redirected redirected(entries_, target_of(function, body.size(), nop.size()));
  ASSERT_EQ(entries_.entry(redirected.id).plan.form, arch::JumpForm::in_padding);
  ASSERT_TRUE(redirected.lead(new_function_)) << redirected.problem.message;
  EXPECT_EQ(redirected.report.passing.threads, 0U) << "one instruction changed: nobody need be asked";
  Caller caller(function);
  Tracer tracer(caller.id());
  if (!tracer.hold(function - 5)) GTEST_SKIP() << "threads cannot be traced here";
  tracer.release_when_asked();
  ASSERT_TRUE(redirected.lead(0)) << redirected.problem.message;
  EXPECT_TRUE(tracer.done());
  EXPECT_EQ(redirected.report.passing.moved, 1U);
  EXPECT_EQ(redirected.report.padding_left, 0U);
  EXPECT_EQ(caller.next_answer(), 1);
  EXPECT_EQ(caller.wrong(), 0);
  EXPECT_TRUE(pages_.is_as_put());
}

Pipe *handler_pipe = nullptr;
std::atomic<bool> is_in_handler = false;
void waiting_handler(int) {
  is_in_handler = true;
  handler_pipe->wait();
  is_in_handler = false;
}

TEST_F(EntryTest, AThreadInAHandlerThatWillReturnBetweenTheBytesIsRefused) {
  const std::uintptr_t function = pages_.put(0x100, framed(1));
  Redirected redirected(entries_, target_of(function, 15));
  Pipe pipe;
  handler_pipe = &pipe;
  struct sigaction action = {}, before = {};
  action.sa_handler = waiting_handler;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  {
    Caller caller(function);
    Tracer tracer(caller.id());
    if (!tracer.hold(function + 4)) GTEST_SKIP() << "threads cannot be traced here";
    ASSERT_TRUE(tracer.release(SIGUSR1));
    while (!is_in_handler) sched_yield();
    EXPECT_FALSE(redirected.lead(new_function_, kSoon));
    EXPECT_EQ(redirected.problem.code, Code::thread_in_the_way);
    EXPECT_NE(std::string(redirected.problem.message).find("thread " + std::to_string(caller.id())), std::string::npos)
        << redirected.problem.message;
    EXPECT_TRUE(pages_.is_as_put());
    pipe.let_go();
    EXPECT_EQ(caller.next_answer(), 1);
    EXPECT_TRUE(redirected.lead(new_function_)) << redirected.problem.message;
    EXPECT_EQ(caller.next_answer(), 2);
    EXPECT_EQ(caller.wrong(), 0);
    EXPECT_TRUE(redirected.lead(0));
  }
  sigaction(SIGUSR1, &before, nullptr);
}

// ---- e26: a call or a system call among the first bytes, with a thread in it

TEST_F(EntryTest, AThreadInADisplacedSystemCallIsMoved) {
  struct sigaction action = {}, before = {};
  action.sa_handler = [](int) {};
  action.sa_flags = SA_RESTART;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  const Bytes codes[] = {
      {0x31, 0xc0, 0x0f, 0x05, 0x48, 0x89, 0xc0, 0xc3},  // xor eax, eax; syscall; mov rax, rax; ret: read()
      {0x31, 0xc0, 0x90, 0x0f, 0x05, 0xc3},  // its last byte is the jump's last: it is begun again in the middle
  };
  std::size_t place = 0;
  for (const Bytes &code : codes) {
    const std::uintptr_t function = pages_.put(place += 0x100, code);
    Redirected redirected(entries_, target_of(function, code.size()));
    Pipe pipe;
    char byte = 0;
    long answer = 0;
    Thread reader([&] { answer = reinterpret_cast<long (*)(int, char *, long)>(function)(pipe.in(), &byte, 1); });
    reader.wait_until_asleep_in(SYS_read);
    EXPECT_TRUE(redirected.lead(new_function_)) << redirected.problem.message;
    EXPECT_EQ(redirected.report.passing.moved, 1U);
    EXPECT_EQ(call(function), 2);
    EXPECT_EQ(syscall(SYS_tgkill, getpid(), reader.id(), SIGUSR1), 0);
    pipe.let_go();
    reader.join();
    EXPECT_EQ(answer, 1);
    EXPECT_EQ(byte, 'x');
    EXPECT_TRUE(redirected.lead(0));
  }
  sigaction(SIGUSR1, &before, nullptr);
}

Pipe *callee_pipe = nullptr;
void waiting_callee() { callee_pipe->wait(); }

TEST_F(EntryTest, AThreadInADisplacedCallIsWaitedFor) {
  // push rbx; call rdi; pop rbx; mov eax, 1; ret: it returns to +3
  const std::uintptr_t function = pages_.put(0x100, {0x53, 0xff, 0xd7, 0x5b, 0xb8, 1, 0, 0, 0, 0xc3});
  Redirected redirected(entries_, target_of(function, 10));
  Pipe pipe;
  callee_pipe = &pipe;
  int answer = 0;
  Thread thread([&] { answer = reinterpret_cast<int (*)(void (*)())>(function)(waiting_callee); });
  thread.wait_until_asleep_in(SYS_read);
  EXPECT_FALSE(redirected.lead(new_function_, kSoon));
  EXPECT_EQ(redirected.problem.code, Code::thread_in_the_way);
  EXPECT_NE(std::string(redirected.problem.message).find("thread " + std::to_string(thread.id())), std::string::npos)
      << redirected.problem.message;
  EXPECT_NE(std::strstr(redirected.problem.message, "will return"), nullptr) << redirected.problem.message;
  EXPECT_TRUE(pages_.is_as_put());
  // Now it comes out while it is waited for.
  Thread releaser([&] { pipe.let_go(); });
  EXPECT_TRUE(redirected.lead(new_function_)) << redirected.problem.message;
  thread.join();
  EXPECT_EQ(answer, 1);
  EXPECT_EQ(call(function), 2);
  // A thread in the trampoline's call: it is kept.
  Thread inside([&] { answer = reinterpret_cast<int (*)(void (*)())>(redirected.original())(waiting_callee); });
  inside.wait_until_asleep_in(SYS_read);
  EXPECT_TRUE(redirected.lead(0)) << redirected.problem.message;
  Obstacle obstacle;
  EXPECT_EQ(entries_.drop_idle(kSoon, obstacle), 0U);
  EXPECT_EQ(obstacle.thread, inside.id());
  pipe.let_go();
  inside.join();
  EXPECT_EQ(answer, 1);
  EXPECT_EQ(entries_.drop_idle(kPatient, obstacle), 1U) << obstacle.why;
}

// ---- e29, e30: no memory near by; sandboxes

TEST_F(EntryTest, RefusesWhereNoMemoryIsNear) {
  constexpr std::uintptr_t kAt = 0x300000000000, kAround = std::uintptr_t{4} << 30;
  void *const around = mmap(reinterpret_cast<void *>(kAt - kAround), 2 * kAround, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  ASSERT_NE(around, MAP_FAILED);
  {
    CodePages lonely(1, kAt);
    const std::uintptr_t function = lonely.put(0x100, framed(1));
    EntryId id = 0;
    Problem problem;
    EXPECT_FALSE(entries_.prepare(target_of(function, 15), id, problem));
    EXPECT_EQ(problem.code, Code::no_near_memory) << problem.message;
    EXPECT_TRUE(lonely.is_as_put());
  }
  munmap(around, 2 * kAround);
}

constexpr int kCannot = 77;  // a child's answer: this machine has no such thing

/// Runs `body` in a child process, which answers 0 when all is well, or a number that says where it was not.
int in_child(const std::function<int()> &body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/// From here on this process's call of `number` fails with EPERM.
bool forbid(long number) {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(number), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {4, filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/// Applies and reverts with a thread that runs and one that sleeps. 0, or where it failed; `refused` when a refusal was clean.
constexpr int kRefused = 3;
int apply_and_revert(CodePages &pages, std::uintptr_t function, std::uintptr_t to,
                     const std::function<bool()> &sandbox) {
  Entries entries;
  Redirected redirected(entries, target_of(function, 15));
  Pipe pipe;
  Thread sleeper([&] { pipe.wait(); });
  sleeper.wait_until_asleep();
  Caller caller(function);
  int answer = 0;
  if (!sandbox()) {
    answer = kCannot;
  } else if (!redirected.lead(to, kSoon * 20)) {
    const bool is_clean = redirected.problem.message[0] != '\0' && pages.is_as_put() && call(function) == 1;
    answer = is_clean ? kRefused : 4;
  } else if (caller.next_answer() != 2) {
    answer = 5;
  } else if (!redirected.lead(0) || caller.next_answer() != 1 || !pages.is_as_put()) {
    answer = 6;
  }
  caller.stop();
  if (answer == 0 && caller.wrong() != 0) answer = 7;
  pipe.let_go();
  _exit(answer);
}

struct Sandbox {
  const char *name;
  std::function<bool()> enter;
  int answer;  // 0: it works there
};

/// seccomp filters of one thread hold for the others when they are told so; here they are made before the threads are.
TEST_F(EntryTest, WorksOrRefusesInASandbox) {
  const std::uintptr_t function = pages_.put(0x100, framed(1));
  const Sandbox sandboxes[] = {
      {"PR_SET_MDWE", [] { return prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0) == 0; }, 0},
      {"no mprotect", [] { return forbid(SYS_mprotect); }, 0},
      {"no membarrier", [] { return forbid(SYS_membarrier); }, 0},
      {"no rt_tgsigqueueinfo", [] { return forbid(SYS_rt_tgsigqueueinfo); }, kRefused},
      {"no process_vm_readv", [] { return forbid(SYS_process_vm_readv); }, kRefused},
      {"no memfd_create", [] { return forbid(SYS_memfd_create); }, kRefused},
      {"no /proc", [] { return chroot("/var/empty") == 0 || chroot("/mnt") == 0; }, kRefused},
  };
  for (const Sandbox &sandbox : sandboxes) {
    SCOPED_TRACE(sandbox.name);
    const int answer = in_child([&] { return apply_and_revert(pages_, function, new_function_, sandbox.enter); });
    if (answer == kCannot)
      std::printf("not here: %s\n", sandbox.name);
    else
      EXPECT_EQ(answer, sandbox.answer);
  }
}

// ---- e41: threads that come and go, threads that block signals

TEST_F(EntryTest, ThreadsStartAndEndMeanwhile) {
  const std::uintptr_t function = pages_.put(0x100, framed(1));
  Redirected redirected(entries_, target_of(function, 15));
  std::atomic<bool> stop = false;
  std::atomic<int> wrong = 0, started = 0;
  std::vector<std::thread> starters;
  for (int k = 0; k < 3; ++k)
    starters.emplace_back([&] {
      while (!stop) {
        std::thread([&] {
          for (int n = 0; n < 50; ++n) {
            const int answer = call(function);
            if (answer != 1 && answer != 2) ++wrong;
          }
          ++started;
        }).join();
      }
    });
  for (int k = 0; k < 100; ++k) {
    ASSERT_TRUE(redirected.lead(new_function_)) << redirected.problem.message;
    ASSERT_TRUE(redirected.lead(0)) << redirected.problem.message;
  }
  stop = true;
  for (std::thread &starter : starters) starter.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(started, 0);
}

TEST_F(EntryTest, AThreadThatBlocksAllSignalsIsRefused) {
  const std::uintptr_t function = pages_.put(0x100, framed(1)), prepared = pages_.put(0x200, plain(1));
  Redirected redirected(entries_, target_of(function, 15)), other(entries_, target_of(prepared, 6));
  Pipe pipe;
  Thread blocker([&] {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
    pipe.wait();
    pthread_sigmask(SIG_UNBLOCK, &all, nullptr);
    pipe.wait();
  });
  blocker.wait_until_asleep_in(SYS_read);
  EXPECT_FALSE(redirected.lead(new_function_, kSoon));
  EXPECT_EQ(redirected.problem.code, Code::thread_in_the_way);
  EXPECT_NE(std::string(redirected.problem.message).find("thread " + std::to_string(blocker.id())), std::string::npos)
      << redirected.problem.message;
  EXPECT_NE(std::strstr(redirected.problem.message, "SIGTRAP"), nullptr) << redirected.problem.message;
  EXPECT_EQ(call(function), 1);
  // One instruction to another: no breakpoint, so nothing to block.
  EXPECT_TRUE(other.lead(new_function_, kSoon)) << other.problem.message;
  EXPECT_EQ(call(prepared), 2);
  pipe.let_go();
  EXPECT_TRUE(redirected.lead(new_function_)) << redirected.problem.message;
  EXPECT_EQ(call(function), 2);
  pipe.let_go();
}

TEST_F(EntryTest, AThreadThatBlocksAllButFaultsPassesAsleep) {
  const std::uintptr_t function = pages_.put(0x100, framed(1));
  Redirected redirected(entries_, target_of(function, 15));
  const auto block = [] {
    sigset_t all;
    sigfillset(&all);
    for (const int fault : {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE}) sigdelset(&all, fault);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
  };
  Pipe pipe;
  {
    Thread sleeper([&] {
      block();
      pipe.wait();
    });
    sleeper.wait_until_asleep_in(SYS_read);
    EXPECT_TRUE(redirected.lead(new_function_)) << redirected.problem.message;
    EXPECT_TRUE(redirected.lead(0));
    pipe.let_go();
  }
  // The same, running: it can neither be seen nor asked.
  std::atomic<bool> stop = false, is_running = false;
  Thread runner([&] {
    block();
    is_running = true;
    while (!stop) {
    }
  });
  while (!is_running) sched_yield();
  EXPECT_FALSE(redirected.lead(new_function_, kSoon));
  EXPECT_NE(std::string(redirected.problem.message).find("thread " + std::to_string(runner.id())), std::string::npos)
      << redirected.problem.message;
  EXPECT_TRUE(pages_.is_as_put());
  stop = true;
}

// ---- e44: handlers of the application, and what it notices

std::atomic<int> own_traps = 0, later_traps = 0;
void own_trap_handler(int, siginfo_t *, void *) { ++own_traps; }
struct sigaction under_later = {};
void later_trap_handler(int signal, siginfo_t *info, void *context) {
  ++later_traps;
  if ((under_later.sa_flags & SA_SIGINFO) != 0) under_later.sa_sigaction(signal, info, context);
}

TEST_F(EntryTest, TheApplicationsTrapHandlersGoOnWorking) {
  const std::uintptr_t function = pages_.put(0x100, framed(1));
  const std::uintptr_t own_trap = pages_.put(0x3300, {0xcc, 0xb8, 6, 0, 0, 0, 0xc3});
  Redirected redirected(entries_, target_of(function, 15));
  struct sigaction action = {}, before = {}, found = {};
  action.sa_sigaction = own_trap_handler;
  action.sa_flags = SA_SIGINFO;
  ASSERT_EQ(sigaction(SIGTRAP, &action, &before), 0);
  own_traps = later_traps = 0;
  int expected = 0;
  const auto trap = [&] {
    EXPECT_EQ(call(own_trap), 6);
    raise(SIGTRAP);
    expected += 2;
    EXPECT_EQ(own_traps, expected);
  };
  {
    Caller caller(function);
    for (int k = 0; k < 20; ++k) {
      ASSERT_TRUE(redirected.lead(new_function_)) << redirected.problem.message;
      trap();
      ASSERT_TRUE(redirected.lead(0));
      trap();
    }
    // Another one over ours, which calls the one that it found: ours, which is put in front again.
    action.sa_sigaction = later_trap_handler;
    ASSERT_EQ(sigaction(SIGTRAP, &action, &under_later), 0);
    trap();
    EXPECT_EQ(later_traps, 2);
    ASSERT_TRUE(redirected.lead(new_function_)) << redirected.problem.message;
    trap();
    EXPECT_EQ(later_traps, 4);
    EXPECT_EQ(caller.next_answer(), 2);
    ASSERT_TRUE(redirected.lead(0));
    EXPECT_EQ(caller.wrong(), 0);
  }
  ASSERT_EQ(sigaction(SIGTRAP, &before, &found), 0);
}

std::atomic<int> own_faults = 0;
void own_fault_handler(int, siginfo_t *, void *context) {
  ++own_faults;
  static_cast<ucontext_t *>(context)->uc_mcontext.gregs[REG_RIP] += 2;
}

TEST_F(EntryTest, TheApplicationsFaultHandlerAndItsSleepersNoticeNothing) {
  const std::uintptr_t function = pages_.put(0x100, framed(1));
  // xor eax, eax; mov [rax], eax: a fault; mov eax, 6; ret
  const std::uintptr_t faults = pages_.put(0x3300, {0x31, 0xc0, 0x89, 0x00, 0xb8, 6, 0, 0, 0, 0xc3});
  struct sigaction action = {}, before = {};
  action.sa_sigaction = own_fault_handler;
  action.sa_flags = SA_SIGINFO;
  ASSERT_EQ(sigaction(SIGSEGV, &action, &before), 0);
  Redirected redirected(entries_, target_of(function, 15));
  Pipe pipe;
  int polled = 0;
  Thread sleeper([&] {
    pollfd one = {pipe.in(), POLLIN, 0};
    polled = poll(&one, 1, -1);
  });
  sleeper.wait_until_asleep();
  {
    Caller caller(function);
    for (int k = 1; k <= 20; ++k) {
      ASSERT_TRUE(redirected.lead(new_function_)) << redirected.problem.message;
      EXPECT_GE(redirected.report.passing.asleep, 1U);
      EXPECT_EQ(call(faults), 6);
      EXPECT_EQ(own_faults, k);
      ASSERT_TRUE(redirected.lead(0));
    }
    EXPECT_EQ(caller.wrong(), 0);
  }
  pipe.let_go();
  sleeper.join();
  EXPECT_EQ(polled, 1) << "poll() was interrupted";
  sigaction(SIGSEGV, &before, nullptr);
}

TEST_F(EntryTest, TheSignalItAsksWithIsGivenBack) {
  const std::uintptr_t function = pages_.put(0x100, framed(1));
  Redirected redirected(entries_, target_of(function, 15));
  // All but one are the application's.
  std::vector<struct sigaction> before(65);
  struct sigaction action = {}, found = {};
  action.sa_handler = [](int) {};
  for (int one = SIGRTMIN; one <= SIGRTMAX; ++one)
    ASSERT_EQ(sigaction(one, &action, &before[static_cast<std::size_t>(one)]), 0);
  {
    Caller caller(function);
    EXPECT_FALSE(redirected.lead(new_function_, kSoon));
    EXPECT_NE(std::strstr(redirected.problem.message, "real-time signal"), nullptr) << redirected.problem.message;
    action.sa_handler = SIG_DFL;
    ASSERT_EQ(sigaction(SIGRTMIN + 3, &action, nullptr), 0);
    EXPECT_TRUE(redirected.lead(new_function_)) << redirected.problem.message;
    EXPECT_TRUE(redirected.lead(0));
  }
  for (int one = SIGRTMIN; one <= SIGRTMAX; ++one) {
    ASSERT_EQ(sigaction(one, &before[static_cast<std::size_t>(one)], &found), 0);
    EXPECT_EQ(found.sa_handler == SIG_DFL, one == SIGRTMIN + 3) << one;
  }
}

}  // namespace
#endif
