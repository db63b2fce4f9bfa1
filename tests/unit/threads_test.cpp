// lib/threads: which threads there are, where they stand, what their stacks hold.
//
// Shown to fail (each guard taken out, the test seen to fail, the guard put back):
//   ListsEveryThread…       thread_list.cpp, read(): complete after the first pass, whatever the kernel counts (now and then)
//   FindsWhatASignal…       x86_64/context.hpp, is_saved_pc(): false
//   Interrupted.IsMade…     interrupted.cpp, make_again(): returns at once; call_number() of x86_64/context.hpp: -1
//   Interrupted.IsLeft…     interrupted.cpp: has_other_signal() is false; was_interrupted() or is_call() not asked; close() put into the table
//   Stacks.…                stacks.cpp, own_end(): end_of(sp); lowest_own(): the first that is found
//   Bystanders.…            bystanders.cpp: `started` not compared; `switches` not compared; forget_seen() does nothing
//   HoldsNothing.…          question.cpp, look_whether_it_holds_nothing(): passes whoever is asleep; goes_unnoticed() is always true;
//                           ask_whether_free(): returns after the first round (…StartedMeanwhile); board.cpp: no registers looked at;
//                           look_at_both_stacks(): looks at the first only
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "threads/question.hpp"

namespace {

using namespace shunt::core;

constexpr std::uint64_t kNever = ~std::uint64_t{0};

/// A thread that sleeps in read() until it is destroyed.
class Sleeper {
 public:
  explicit Sleeper(bool blocks_signals = false) {
    EXPECT_EQ(pipe2(ends_, O_CLOEXEC), 0);
    thread_ = std::thread([this, blocks_signals] {
      if (blocks_signals) {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, nullptr);
      }
      id_ = sys::thread_id();
      char byte = 0;
      while (read(ends_[0], &byte, 1) < 0) {
      }
    });
    while (id_ == 0 || standing_of(id_).doing != Standing::Doing::asleep) sched_yield();
  }
  ~Sleeper() {
    close(ends_[1]);
    thread_.join();
    close(ends_[0]);
  }
  [[nodiscard]] int id() const { return id_; }

 private:
  int ends_[2] = {-1, -1};
  std::atomic<int> id_ = 0;
  std::thread thread_;
};

TEST(ThreadList, ListsEveryThreadWhileOthersComeAndGo) {
  std::vector<std::unique_ptr<Sleeper>> sleepers;
  for (int k = 0; k < 20; ++k) sleepers.push_back(std::make_unique<Sleeper>());
  std::atomic<bool> stop = false;
  std::vector<std::thread> starters;
  for (int k = 0; k < 2; ++k)
    starters.emplace_back([&stop] {
      while (!stop) std::thread([] {}).join();
    });
  for (int k = 0; k < 200; ++k) {
    ThreadList list;
    ASSERT_EQ(list.read(kNever), ThreadList::Outcome::complete);
    EXPECT_TRUE(std::binary_search(list.ids().begin(), list.ids().end(), sys::thread_id()));
    for (const auto &one : sleepers) EXPECT_TRUE(std::binary_search(list.ids().begin(), list.ids().end(), one->id()));
  }
  stop = true;
  for (std::thread &starter : starters) starter.join();
}

TEST(Standing, TellsWhoSleepsAndWhoIsGone) {
  int id = 0;
  {
    Sleeper sleeper;
    id = sleeper.id();
    const Standing first = standing_of(id), second = standing_of(id);
    EXPECT_EQ(first.doing, Standing::Doing::asleep);
    EXPECT_EQ(first.call.number, SYS_read);
    EXPECT_NE(first.pc, 0U);
    EXPECT_NE(first.sp, 0U);
    EXPECT_EQ(first.switches, second.switches);
  }
  EXPECT_EQ(standing_of(id).doing, Standing::Doing::gone);
  std::atomic<bool> stop = false;
  std::atomic<int> runner_id = 0;
  std::thread runner([&] {
    runner_id = sys::thread_id();
    while (!stop) {
    }
  });
  while (runner_id == 0) sched_yield();
  EXPECT_EQ(standing_of(runner_id).doing, Standing::Doing::running);
  stop = true;
  runner.join();
}

TEST(Standing, TellsWhichSignalsAreBlocked) {
  Sleeper open, blocking(true);
  std::uint64_t mask = 0;
  ASSERT_TRUE(blocked_signals(open.id(), mask));
  EXPECT_FALSE(blocks(mask, SIGTRAP));
  ASSERT_TRUE(blocked_signals(blocking.id(), mask));
  EXPECT_TRUE(blocks(mask, SIGTRAP));
  EXPECT_TRUE(blocks(mask, SIGRTMAX));
}

class StackTest : public testing::Test {
 protected:
  static constexpr std::uintptr_t kBegin = 0x123456789000;
  static constexpr arch::Boundary kBoundaries[] = {{0, 0}, {1, 1}, {4, 4}, {9, 9}};

  /// What a look at these words finds. They end where memory ends.
  Scan scan(std::initializer_list<std::uintptr_t> words, bool is_returned_to) {
    const CodeRange range = {kBegin + 1, 8, is_returned_to, kBegin, kBegin + 0x1000, kBoundaries};
    const CodeRanges ranges({&range, 1});
    const std::vector<std::uintptr_t> stack(words);
    const auto sp = reinterpret_cast<std::uintptr_t>(stack.data());
    std::uintptr_t buffer[4];  // so that what belongs together is read in two pieces
    return scan_stack(ranges, sp, sp + words.size() * sizeof(std::uintptr_t), buffer, where_);
  }
  std::uintptr_t where_ = 0;
};

TEST_F(StackTest, FindsReturnAddresses) {
  EXPECT_EQ(scan({1, 2, 3, 4, 5, kBegin + 4, 6}, true), Scan::found);
  EXPECT_EQ(where_, kBegin + 4);
  EXPECT_EQ(scan({1, 2, 3, 4, 5, kBegin + 5, 6}, true), Scan::clean) << "no instruction begins there";
  EXPECT_EQ(scan({kBegin, kBegin + 9}, true), Scan::clean) << "not in the way";
  EXPECT_EQ(scan({1, 2, 3, 4, 5, kBegin + 4, 6}, false), Scan::clean) << "nothing returns there";
}

#if defined(__x86_64__)
TEST_F(StackTest, FindsWhatASignalHandlerWillReturnTo) {
  constexpr std::uintptr_t kFlags = 0x246, kSegments = 0x2b000000000033;
  EXPECT_EQ(scan({1, kBegin + 4, kFlags, kSegments}, false), Scan::found);
  EXPECT_EQ(scan({1, 2, kBegin + 4, kFlags, kSegments}, false), Scan::found);
  EXPECT_EQ(scan({1, 2, 3, kBegin + 4, kFlags, kSegments}, false), Scan::found);
  EXPECT_EQ(scan({1, 2, 3, kBegin + 4, kFlags, 0}, false), Scan::clean);
}
#endif

TEST_F(StackTest, MemoryThatIsNotThereIsNoFault) {
  const CodeRanges ranges({});
  std::uintptr_t buffer[4];
  EXPECT_EQ(scan_stack(ranges, 4096, 8192, buffer, where_), Scan::failed);
  Stacks stacks;
  ASSERT_TRUE(stacks.read());
  EXPECT_EQ(stacks.end_of(4096), 0U);
  EXPECT_GT(stacks.end_of(reinterpret_cast<std::uintptr_t>(buffer)), reinterpret_cast<std::uintptr_t>(buffer));
}

// stacks.cpp, own_end(): is_first not asked.
TEST_F(StackTest, ACoroutinesStackIsNobodysOwn) {
  constexpr std::size_t kSize = 65536;
  std::vector<char> memory(kSize);
  const auto begin = reinterpret_cast<std::uintptr_t>(memory.data());
  const StackOwner first = StackOwner::self(), other = {begin + kSize / 2, false}, same = {begin + kSize / 2, true};
  ASSERT_TRUE(first.is_first) << "a test runs in the first thread";
  Stacks stacks;
  ASSERT_TRUE(stacks.read());
  EXPECT_GT(stacks.own_end(reinterpret_cast<std::uintptr_t>(&first), first), reinterpret_cast<std::uintptr_t>(&first));
  EXPECT_EQ(stacks.own_end(reinterpret_cast<std::uintptr_t>(&first), other), 0U);
  EXPECT_GT(stacks.own_end(begin, other), begin) << "its thread pointer is behind";
  EXPECT_EQ(stacks.own_end(begin + kSize / 2 + 8, other), 0U);
  EXPECT_EQ(stacks.own_end(begin, same), 0U) << "the first thread's stack is the kernel's, wherever its variables are";
  bool was_first = true;
  std::thread([&] { was_first = StackOwner::self().is_first; }).join();
  EXPECT_FALSE(was_first);
}

TEST(Question, EachThreadPassesOnceAndTheSignalIsGivenBack) {
  Sleeper one, two, deaf(true);
  std::atomic<bool> stop = false;
  std::thread runner([&stop] {
    while (!stop) {
    }
  });
  const CodeRange range = {0x123456789000, 16, false, 0, 0, {}};
  Obstacle obstacle;
  Passing passing;
  {
    Question question;
    ASSERT_TRUE(question.open(0, kNever, obstacle)) << obstacle.why;
    const auto sp = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
    EXPECT_TRUE(question.ask({&range, 1}, sp, kNever, passing, obstacle)) << obstacle.why;
    EXPECT_GE(passing.asleep, 3U);
    EXPECT_LE(passing.asked, 1U);
  }
  for (int signal = SIGRTMIN; signal <= SIGRTMAX; ++signal) {
    struct sigaction found = {};
    ASSERT_EQ(sigaction(signal, nullptr, &found), 0);
    EXPECT_EQ(found.sa_handler, SIG_DFL) << signal;
  }
  stop = true;
  runner.join();
}

// ---- system calls that a signal interrupted

#if defined(__x86_64__)
/// A thread as the handler finds it behind a call: `code` ends there.
class Interrupted : public testing::Test {
 protected:
  bool is_made_again(std::initializer_list<std::uint8_t> code, long result = -EINTR) {
    std::fill(std::begin(code_), std::end(code_), std::uint8_t{0x90});
    std::copy(code.begin(), code.end(), std::end(code_) - static_cast<std::ptrdiff_t>(code.size()));
    context_.uc_mcontext.gregs[REG_RAX] = result;
    const auto pc = reinterpret_cast<greg_t>(std::end(code_));
    context_.uc_mcontext.gregs[REG_RIP] = pc;
    make_again(context_, seen_, static_cast<std::uintptr_t>(pc), 0);
    if (context_.uc_mcontext.gregs[REG_RIP] == pc) return false;
    EXPECT_EQ(context_.uc_mcontext.gregs[REG_RIP], pc - 2);
    return true;
  }
  [[nodiscard]] long number() const { return context_.uc_mcontext.gregs[REG_RAX]; }

  ucontext_t context_ = {};
  SystemCall seen_;
  std::uint8_t code_[64];
};

constexpr std::uint8_t kPoll = SYS_poll, kClose = SYS_close;

TEST_F(Interrupted, IsMadeAgainWhereTheCodeTellsWhichCallItWas) {
  EXPECT_TRUE(is_made_again({0xb8, kPoll, 0, 0, 0, 0x0f, 0x05}));
  EXPECT_EQ(number(), SYS_poll);
  // mov eax, 7; mov rdx, [rsp + 8]; mov edi, [rsp]; syscall
  EXPECT_TRUE(is_made_again({0xb8, kPoll, 0, 0, 0, 0x48, 0x8b, 0x54, 0x24, 8, 0x8b, 0x3c, 0x24, 0x0f, 0x05}));
  EXPECT_EQ(number(), SYS_poll);
  context_.uc_mcontext.gregs[REG_R15] = SYS_futex;
  EXPECT_TRUE(is_made_again({0x44, 0x89, 0xf8, 0x0f, 0x05})) << "mov eax, r15d; syscall";
  EXPECT_EQ(number(), SYS_futex);
  EXPECT_TRUE(is_made_again({0x31, 0xc0, 0x0f, 0x05})) << "xor eax, eax; syscall";
  EXPECT_EQ(number(), SYS_read);
}

TEST_F(Interrupted, IsMadeAgainWhereTheThreadWasSeenInIt) {
  EXPECT_FALSE(is_made_again({0x0f, 0x05}));
  seen_.number = SYS_epoll_wait;
  EXPECT_TRUE(is_made_again({0x0f, 0x05}));
  EXPECT_EQ(number(), SYS_epoll_wait);
}

TEST_F(Interrupted, IsLeftAsItIsOtherwise) {
  EXPECT_FALSE(is_made_again({0xb8, kPoll, 0, 0, 0, 0x0f, 0x05}, 0)) << "it has not failed";
  EXPECT_FALSE(is_made_again({0xb8, kPoll, 0, 0, 0, 0x90, 0x90})) << "no call";
  EXPECT_FALSE(is_made_again({0xb8, kClose, 0, 0, 0, 0x0f, 0x05})) << "the descriptor is closed already";
  EXPECT_FALSE(is_made_again({0xb8, kPoll, 0, 0, 0, 0x8b, 0x44, 0x24, 8, 0x0f, 0x05})) << "eax is loaded after";
}

TEST_F(Interrupted, IsLeftToASignalOfTheApplication) {
  struct sigaction action = {}, before = {};
  action.sa_handler = [](int) {};
  sigaction(SIGUSR1, &action, &before);
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &one, nullptr);  // as in our handler
  raise(SIGUSR1);
  EXPECT_FALSE(is_made_again({0xb8, kPoll, 0, 0, 0, 0x0f, 0x05})) << "the interrupted thread lets it in";
  context_.uc_sigmask = one;
  EXPECT_TRUE(is_made_again({0xb8, kPoll, 0, 0, 0, 0x0f, 0x05})) << "it does not";
  context_.uc_sigmask = {};
  signal(SIGUSR1, SIG_IGN);
  EXPECT_TRUE(is_made_again({0xb8, kPoll, 0, 0, 0, 0x0f, 0x05})) << "nobody would handle it";
  pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
  sigaction(SIGUSR1, &before, nullptr);
}
#endif

TEST(InterruptedCalls, AreKnown) {
  const auto of = [](long number, std::initializer_list<std::uintptr_t> arguments) {
    SystemCall call;
    call.number = number;
    std::copy(arguments.begin(), arguments.end(), call.arguments);
    return again(call);
  };
  constexpr std::uintptr_t kEndless = static_cast<std::uintptr_t>(-1), kTime = 0x1000;
  EXPECT_EQ(of(SYS_epoll_pwait, {3, 0, 1, kEndless}), Again::exact);
  EXPECT_EQ(of(SYS_epoll_pwait, {3, 0, 1, 1000}), Again::whole);
  EXPECT_EQ(of(SYS_ppoll, {0, 0, kTime}), Again::exact);
  EXPECT_EQ(of(SYS_clock_nanosleep, {CLOCK_MONOTONIC, TIMER_ABSTIME, kTime}), Again::exact);
  EXPECT_EQ(of(SYS_clock_nanosleep, {CLOCK_MONOTONIC, 0, kTime}), Again::whole);
  EXPECT_EQ(of(SYS_futex, {0, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, 0}), Again::exact);
  EXPECT_EQ(of(SYS_futex, {0, FUTEX_WAIT, 0, kTime}), Again::whole);
  EXPECT_EQ(of(SYS_futex, {0, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, kTime}), Again::exact);
  EXPECT_EQ(of(SYS_write, {1}), Again::noticed);
  EXPECT_EQ(of(SYS_close, {1}), Again::noticed);
  int sockets[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
  const auto fd = static_cast<std::uintptr_t>(sockets[0]);
  EXPECT_EQ(of(SYS_recvfrom, {fd}), Again::exact);
  EXPECT_EQ(of(SYS_recvfrom, {fd, 0, 0, MSG_WAITALL}), Again::noticed);
  const timeval timeout = {1, 0};
  setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  EXPECT_EQ(of(SYS_recvfrom, {fd}), Again::whole);
  EXPECT_EQ(of(SYS_read, {fd}), Again::whole);
  for (const int one : sockets) close(one);
}

// ---- code that goes away: nobody may hold an address in it

constexpr std::uintptr_t kCode = 0x123456789000;  // where nothing is
constexpr std::uint64_t kMillisecond = 1'000'000, kBrief = 20 * kMillisecond, kPatient = 30'000 * kMillisecond;

/// What a thread is told to go on by.
class Gate {
 public:
  Gate() { EXPECT_EQ(pipe2(ends_, O_CLOEXEC), 0); }
  ~Gate() {
    for (const int fd : ends_) close(fd);
  }
  void open() const { EXPECT_EQ(write(ends_[1], "x", 1), 1); }
  void pass() const {
    char byte = 0;
    while (read(ends_[0], &byte, 1) < 0) {
    }
  }
  [[nodiscard]] int in() const { return ends_[0]; }

 private:
  int ends_[2] = {-1, -1};
};

/// A thread that does what it is given.
class Worker {
 public:
  explicit Worker(std::function<void()> work)
      : thread_([this, work = std::move(work)] {
          id_ = sys::thread_id();
          work();
          has_worked_ = true;
        }) {
    while (id_ == 0) sched_yield();
  }
  ~Worker() { thread_.join(); }
  [[nodiscard]] int id() const { return id_; }
  [[nodiscard]] bool has_worked() const { return has_worked_; }
  void wait_until_asleep_in(long number) const {
    for (Standing standing;
         !has_worked_ && (standing.doing != Standing::Doing::asleep || standing.call.number != number);)
      standing = standing_of(id_);
  }

 private:
  std::atomic<int> id_ = 0;
  std::atomic<bool> has_worked_ = false;
  std::thread thread_;
};

/// The address, without this function's own stack having it.
__attribute__((noinline)) std::uintptr_t code_address() {
  static volatile std::uintptr_t half = kCode / 2;
  return half * 2 + 8;
}

class HoldsNothing : public testing::Test {
 protected:
  bool ask(std::uint64_t patience = kBrief) {
    const CodeRange code = {kCode, 4096, true, 0, 0, {}};
    Question question;
    obstacle_ = {};
    passing_ = {};
    EXPECT_TRUE(question.open(0, now_ns() + kPatient, obstacle_)) << obstacle_.why;
    // The test's own thread knows the address.
    const bool is_free =
        question.ask_whether_free(code, bystanders_, Question::kOwnThread, now_ns() + patience, passing_, obstacle_);
    left_.clear();
    question.visit_left([this](const Obstacle &one) { left_.push_back(one); });
    has_seen_coroutine_ = question.has_seen_coroutine();
    return is_free;
  }
  void TearDown() override { bystanders_.forget_seen(); }

  Bystanders bystanders_;
  Obstacle obstacle_;
  Passing passing_;
  std::vector<Obstacle> left_;
  bool has_seen_coroutine_ = false;
};

TEST_F(HoldsNothing, WhoSleepsWithoutAnAddressPassesAndSleepsOn) {
  Gate gate;
  Worker worker([&] { gate.pass(); });
  worker.wait_until_asleep_in(SYS_read);
  EXPECT_TRUE(ask(kPatient)) << obstacle_.why;
  EXPECT_EQ(passing_.asked, 1U);
  EXPECT_TRUE(ask(kPatient)) << obstacle_.why;
  EXPECT_EQ(passing_.asked, 0U) << "it was seen";
  gate.open();
}

#if defined(__x86_64__)
TEST_F(HoldsNothing, AnAddressInARegisterIsSeenAcrossASystemCall) {
  Gate gate;
  Worker worker([&] {
    char byte = 0;
    long number = SYS_read;
    // As a compiler does that keeps a slot's value in rbx.
    __asm__ volatile("mov %[code], %%rbx; syscall; xor %%ebx, %%ebx"
                     : "+a"(number)
                     : "D"(static_cast<long>(gate.in())), "S"(&byte), "d"(1L), [code] "r"(code_address())
                     : "rbx", "rcx", "r11", "memory");
    gate.pass();
  });
  worker.wait_until_asleep_in(SYS_read);
  EXPECT_FALSE(ask());
  EXPECT_EQ(obstacle_.thread, worker.id());
  EXPECT_EQ(obstacle_.at, kCode + 8);
  gate.open();
  worker.wait_until_asleep_in(SYS_read);
  gate.open();
}
#endif

/// Has the address on its stack while it waits for the gate.
__attribute__((noinline)) void hold(const Gate &gate) {
  volatile std::uintptr_t address = code_address();
  gate.pass();
  address = address / 2;
}

/// Overwrites what others have left on the stack.
__attribute__((noinline)) void wipe() {
  volatile char bytes[16384];
  for (volatile char &byte : bytes) byte = 0;
}

TEST_F(HoldsNothing, AnAddressOnAStackIsSeen) {
  Gate gate, second;
  Worker worker([&] {
    hold(gate);
    wipe();
    second.pass();
  });
  worker.wait_until_asleep_in(SYS_read);
  EXPECT_FALSE(ask());
  ASSERT_EQ(left_.size(), 1U);
  EXPECT_EQ(left_[0].thread, worker.id());
  gate.open();
  EXPECT_TRUE(ask(kPatient)) << obstacle_.why;
  second.open();
}

TEST_F(HoldsNothing, WhoHasNotRunSinceBeforeIsNotDisturbed) {
  Gate gate, second;
  Worker worker([&] {
    hold(gate);
    hold(second);
  });
  worker.wait_until_asleep_in(SYS_read);
  bystanders_.note_sleepers();
  EXPECT_TRUE(ask()) << obstacle_.why;
  EXPECT_EQ(passing_.asked, 0U);
  bystanders_.forget_seen();
  EXPECT_TRUE(ask()) << "what lies on its stack is older";
  bystanders_.forget_seen();
  gate.open();
  const std::uint64_t hang = now_ns() + kPatient;
  while (ask() && now_ns() < hang) bystanders_.forget_seen();
  EXPECT_EQ(obstacle_.thread, worker.id()) << "it has run";
  second.open();
}

TEST_F(HoldsNothing, ACallWithATimeoutIsWaitedFor) {
  std::atomic<bool> stop = false;
  Worker worker([&] {
    const timespec time = {0, 20'000'000};
    while (!stop) nanosleep(&time, nullptr);
  });
  worker.wait_until_asleep_in(SYS_clock_nanosleep);
  ask(0);
  for (const Obstacle &one : left_) EXPECT_TRUE(one.call < 0 || one.call == SYS_clock_nanosleep) << one.call;
  EXPECT_TRUE(ask(kPatient)) << "it is seen when it has run";
  stop = true;
}

const Gate *last_gate = nullptr;
std::atomic<int> child = 0;

void *hold_what_is_given(void *given) {
  void *volatile address = given;
  child = sys::thread_id();
  last_gate->pass();
  address = nullptr;
  return address;
}

/// Gives the address, which it has itself, to a thread that has it until the last gate opens. Never is neither of them without.
__attribute__((noinline)) void start_holder(const Gate &first) {
  void *volatile address = reinterpret_cast<void *>(code_address());
  first.pass();
  pthread_t thread;
  pthread_create(&thread, nullptr, hold_what_is_given, address);
  pthread_detach(thread);
  while (child == 0) sched_yield();
  address = nullptr;
}

TEST_F(HoldsNothing, ThreadsStartedMeanwhileAreAsked) {
  Gate first, second, third;
  last_gate = &third;
  Worker parent([&] {
    start_holder(first);
    wipe();
    second.pass();
  });
  parent.wait_until_asleep_in(SYS_read);
  bool is_free = true;
  const std::uint32_t answers = Board::the() != nullptr ? Board::the()->answers.load() : 0;
  std::thread opener([&] {
    while (Board::the() == nullptr || Board::the()->answers == answers) sched_yield();
    first.open();
  });
  is_free = ask(2000 * kMillisecond);
  opener.join();
  EXPECT_FALSE(is_free);
  EXPECT_TRUE(std::any_of(left_.begin(), left_.end(), [&](const Obstacle &one) { return one.thread == child; }));
  third.open();
  second.open();
  while (standing_of(child).doing != Standing::Doing::gone) sched_yield();
}

const Gate *handler_gate = nullptr;

// question.cpp: is_awaited() is false.
TEST_F(HoldsNothing, AThreadThatWaitsForAllSignalsIsSentNone) {
  int signal = 0;
  std::atomic<pthread_t> handle = 0;
  {
    Worker worker([&] {
      handle = pthread_self();
      sigset_t all;
      sigfillset(&all);
      pthread_sigmask(SIG_SETMASK, &all, nullptr);
      signal = sigwaitinfo(&all, nullptr);
    });
    worker.wait_until_asleep_in(SYS_rt_sigtimedwait);
    EXPECT_FALSE(ask());
    EXPECT_EQ(obstacle_.thread, worker.id());
    EXPECT_EQ(passing_.asked, 0U);
    pthread_kill(handle, SIGUSR2);
  }
  EXPECT_EQ(signal, SIGUSR2);
}

// question.cpp, send(): blocked signals not looked at (the call goes on until its time is over).
TEST_F(HoldsNothing, ACallThatAHandlerEndedMeanwhileStaysEnded) {
  struct sigaction action = {}, before = {};
  action.sa_handler = [](int) { handler_gate->pass(); };
  sigfillset(&action.sa_mask);
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  Gate gate;
  handler_gate = &gate;
  std::atomic<pthread_t> handle = 0;
  int error = 0;
  {
    Worker worker([&] {
      handle = pthread_self();
      error = poll(nullptr, 0, 10'000) < 0 ? errno : 0;
    });
    worker.wait_until_asleep_in(SYS_poll);
    Question question;
    ASSERT_TRUE(question.open(0, now_ns() + kPatient, obstacle_)) << obstacle_.why;
    pthread_kill(handle, SIGUSR1);
    worker.wait_until_asleep_in(SYS_read);

    const CodeRange code = {kCode, 4096, true, 0, 0, {}};
    EXPECT_FALSE(
        question.ask_whether_free(code, bystanders_, Question::kOwnThread, now_ns() + kBrief, passing_, obstacle_));
    gate.open();  // the handler returns, and the signal of the question is let in
  }
  EXPECT_EQ(error, EINTR) << "the application's own signal";
  sigaction(SIGUSR1, &before, nullptr);
}

TEST_F(HoldsNothing, TheStackThatWasLeftForASignalStackIsSeen) {
  struct sigaction action = {}, before = {};
  action.sa_handler = [](int) { handler_gate->pass(); };
  action.sa_flags = SA_ONSTACK;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  for (const bool holds : {true, false}) {
    Gate gate, last;
    handler_gate = &gate;
    Worker worker([&] {
      std::vector<char> memory(65536);
      const stack_t stack = {memory.data(), 0, memory.size()};
      sigaltstack(&stack, nullptr);
      volatile std::uintptr_t address = holds ? code_address() : 0;
      raise(SIGUSR1);
      address = address / 2;
      const stack_t none = {nullptr, SS_DISABLE, 0};
      sigaltstack(&none, nullptr);
    });
    worker.wait_until_asleep_in(SYS_read);
    EXPECT_EQ(ask(holds ? kBrief : kPatient), !holds) << obstacle_.why;
    EXPECT_FALSE(has_seen_coroutine_);
    gate.open();
  }
  sigaction(SIGUSR1, &before, nullptr);
}

TEST_F(HoldsNothing, AThreadOnAStackOfItsOwnMakingIsNotedAndInTheWay) {
  Gate gate;
  Worker worker([&] {
    static ucontext_t main, other;
    static const Gate *waits_at = nullptr;
    waits_at = &gate;
    std::vector<char> stack(std::size_t{64} << 10);
    getcontext(&other);
    other.uc_stack = {stack.data(), 0, stack.size()};
    other.uc_link = &main;
    makecontext(
        &other, [] { waits_at->pass(); }, 0);
    swapcontext(&main, &other);
  });
  worker.wait_until_asleep_in(SYS_read);
  EXPECT_FALSE(ask());
  EXPECT_TRUE(has_seen_coroutine_);
  EXPECT_STREQ(obstacle_.why, kIsCoroutine);
  gate.open();
}

}  // namespace
