// e44: threads are asked by signal while they sleep in system calls of every kind: none of the calls fails with EINTR, none returns
// sooner than it should, and none goes on for ever. (That a signal of the application's own ends a call as ever is tests/unit/threads_test.cpp.)
//
// Shown to fail (each guard of lib/threads taken out, the test seen to fail, the guard put back):
//   NoCall…            board.cpp, on_question(): no make_again(). x86_64/context.hpp, call_number(): only the `mov eax, number` right
//                      before the call is known
//   EndsInTime…        question.cpp, goes_unnoticed(): again != noticed is enough
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "threads/question.hpp"

namespace {

using namespace shunt::core;

constexpr std::uint64_t kMillisecond = 1'000'000;
constexpr long kShort = 3;  // milliseconds, of calls with a timeout

constexpr timespec after(long milliseconds) { return {0, milliseconds * 1'000'000}; }

timespec until(clockid_t clock, long milliseconds) {
  timespec end = {};
  clock_gettime(clock, &end);
  end.tv_nsec += milliseconds * 1'000'000;
  if (end.tv_nsec >= 1'000'000'000) {
    end.tv_nsec -= 1'000'000'000;
    end.tv_sec += 1;
  }
  return end;
}

/// One way to sleep, in a thread that does it again and again.
class Sleeper {
 public:
  /// `sleep` answers 0, or an errno. `at_least`: how many milliseconds it should take.
  Sleeper(const char *name, long at_least, std::function<int()> sleep)
      : name_(name), thread_([this, at_least, sleep = std::move(sleep)] {
          while (!stop_) {
            const std::uint64_t begin = now_ns();
            const int failed = sleep();
            if (failed == EINTR) ++interrupted_;
            if (failed != 0 && failed != EINTR) ++failed_;
            if (now_ns() - begin < static_cast<std::uint64_t>(at_least) * kMillisecond) ++short_;
            ++count_;
          }
        }) {}
  void stop() { stop_ = true; }
  void join() {
    thread_.join();
    EXPECT_EQ(interrupted_, 0) << name_ << ", of " << count_ << " calls";
    EXPECT_EQ(failed_, 0) << name_;
    EXPECT_EQ(short_, 0) << name_;
    EXPECT_GT(count_, 0) << name_;
  }

 private:
  const char *const name_;
  std::atomic<bool> stop_ = false;
  std::atomic<int> interrupted_ = 0, failed_ = 0, short_ = 0;
  std::atomic<long> count_ = 0;
  std::thread thread_;
};

int error_of(long result) { return result < 0 ? errno : 0; }
/// For calls that end with `expected` when their time is over.
int error_but(int expected, long result) { return result >= 0 ? EPROTO : errno == expected ? 0 : errno; }

/// What the sleepers wait for, and what wakes them.
struct Things {
  int pipe[2], sockets[2], timed_sockets[2], epoll = epoll_create1(EPOLL_CLOEXEC);
  int semaphores = semget(IPC_PRIVATE, 2, 0600), messages = msgget(IPC_PRIVATE, 0600);
  sem_t semaphore, never;
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
  std::atomic<int> word = 0;
  sigset_t awaited, never_sent;

  Things() {
    EXPECT_EQ(pipe2(pipe, O_CLOEXEC), 0);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, timed_sockets), 0);
    for (const int fd : {pipe[1], sockets[1]}) fcntl(fd, F_SETFL, O_NONBLOCK);  // their readers may have stopped
    const timeval timeout = {0, kShort * 1000};
    setsockopt(timed_sockets[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    epoll_event event = {EPOLLIN, {}};
    EXPECT_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, timed_sockets[0], &event), 0);  // never readable
    sem_init(&semaphore, 0, 0);
    sem_init(&never, 0, 0);
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGUSR2);
    sigemptyset(&never_sent);
    sigaddset(&never_sent, SIGXFSZ);
  }
  ~Things() {
    for (const int fd : {pipe[0], pipe[1], sockets[0], sockets[1], timed_sockets[0], timed_sockets[1], epoll})
      close(fd);
    semctl(semaphores, 0, IPC_RMID);
    msgctl(messages, IPC_RMID, nullptr);
  }
};

using Sleepers = std::vector<std::unique_ptr<Sleeper>>;

/// Calls that end by themselves.
void add_timed(Things &t, Sleepers &all) {
  const auto add = [&](const char *name, std::function<int()> sleep) {
    all.push_back(std::make_unique<Sleeper>(name, kShort, std::move(sleep)));
  };
  add("epoll_wait", [&] {
    epoll_event event;
    return error_of(epoll_wait(t.epoll, &event, 1, kShort));
  });
  add("epoll_pwait", [&] {
    epoll_event event;
    sigset_t mask;
    sigfillset(&mask);
    sigdelset(&mask, SIGRTMAX);
    return error_of(epoll_pwait(t.epoll, &event, 1, kShort, &mask));
  });
  add("poll", [] { return error_of(poll(nullptr, 0, kShort)); });
  add("ppoll", [] {
    const timespec time = after(kShort);
    return error_of(ppoll(nullptr, 0, &time, nullptr));
  });
  add("select", [] {
    timeval time = {0, kShort * 1000};
    return error_of(select(0, nullptr, nullptr, nullptr, &time));
  });
  add("pselect", [] {
    const timespec time = after(kShort);
    return error_of(pselect(0, nullptr, nullptr, nullptr, &time, nullptr));
  });
  add("nanosleep", [] {
    const timespec time = after(kShort);
    return error_of(nanosleep(&time, nullptr));
  });
  add("clock_nanosleep, until", [] {
    const timespec end = until(CLOCK_MONOTONIC, kShort);
    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, nullptr);
  });
  add("recv with SO_RCVTIMEO", [&] {
    char byte = 0;
    return error_but(EAGAIN, recv(t.timed_sockets[0], &byte, 1, 0));
  });
  add("sigtimedwait", [&] {
    const timespec time = after(kShort);
    return error_but(EAGAIN, sigtimedwait(&t.never_sent, nullptr, &time));
  });
  add("semtimedop", [&] {
    const timespec time = after(kShort);
    sembuf take = {1, -1, 0};
    return error_but(EAGAIN, semtimedop(t.semaphores, &take, 1, &time));
  });
  add("sem_timedwait", [&] {
    const timespec end = until(CLOCK_REALTIME, kShort + 1);  // its clock may be set
    return error_but(ETIMEDOUT, sem_timedwait(&t.never, &end));
  });
  add("pthread_cond_timedwait", [&] {
    const timespec end = until(CLOCK_REALTIME, kShort + 1);
    pthread_mutex_lock(&t.mutex);
    const int result = pthread_cond_timedwait(&t.condition, &t.mutex, &end);
    pthread_mutex_unlock(&t.mutex);
    return result == ETIMEDOUT ? 0 : result == 0 ? EPROTO : result;
  });
}

/// Calls that end when wake_all() lets them.
void add_endless(Things &t, Sleepers &all) {
  const auto add = [&](const char *name, std::function<int()> sleep) {
    all.push_back(std::make_unique<Sleeper>(name, 0, std::move(sleep)));
  };
  add("read", [&] {
    char byte = 0;
    return error_of(read(t.pipe[0], &byte, 1));
  });
  add("recv", [&] {
    char byte = 0;
    return error_of(recv(t.sockets[0], &byte, 1, 0));
  });
  add("semop", [&] {
    sembuf take = {0, -1, 0};
    return error_of(semop(t.semaphores, &take, 1));
  });
  add("msgrcv", [&] {
    struct {
      long type;
      char text[8];
    } message;
    return error_of(msgrcv(t.messages, &message, sizeof message.text, 0, 0));
  });
  add("sigwaitinfo", [&] { return error_of(sigwaitinfo(&t.awaited, nullptr)); });
  add("sem_wait", [&] { return error_of(sem_wait(&t.semaphore)); });
  add("futex", [&] {
    const int seen = t.word;
    const long result = syscall(SYS_futex, &t.word, 128 /* FUTEX_WAIT, private */, seen, nullptr, nullptr, 0);
    return result < 0 && errno == EAGAIN ? 0 : error_of(result);
  });
}

void wake_all(Things &t) {
  struct {
    long type;
    char text[8];
  } message = {1, {}};
  sembuf give = {0, 1, 0};
  for (const int fd : {t.pipe[1], t.sockets[1]}) EXPECT_TRUE(write(fd, "x", 1) == 1 || errno == EAGAIN);
  semop(t.semaphores, &give, 1);
  msgsnd(t.messages, &message, sizeof message.text, IPC_NOWAIT);
  kill(getpid(), SIGUSR2);
  sem_post(&t.semaphore);
  t.word += 1;
  syscall(SYS_futex, &t.word, 129 /* FUTEX_WAKE, private */, 1000, nullptr, nullptr, 0);
}

class SignalsTest : public testing::Test {
 protected:
  SignalsTest() {
    sigemptyset(&blocked_);
    sigaddset(&blocked_, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &blocked_, nullptr);  // sigwaitinfo() gets it
  }
  ~SignalsTest() override {
    signal(SIGUSR2, SIG_IGN);  // one may be left over
    pthread_sigmask(SIG_UNBLOCK, &blocked_, nullptr);
    signal(SIGUSR2, SIG_DFL);
  }

  /// Asks whether anybody holds an address where nothing is. Then whoever does not notice it is sent a signal.
  void ask(std::uint64_t patience) {
    const CodeRange nowhere = {0x123456789000, 16, true, 0, 0, {}};
    Question question;
    Obstacle obstacle;
    Bystanders nobody;
    const std::uint64_t deadline = now_ns() + patience;
    ASSERT_TRUE(question.open(0, now_ns() + 30'000 * kMillisecond, obstacle)) << obstacle.why;
    const auto sp = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
    static_cast<void>(question.ask_whether_free(nowhere, nobody, sp, deadline, passing_, obstacle));
  }

  sigset_t blocked_;
  Passing passing_;
};

TEST_F(SignalsTest, NoCallNoticesThatItsThreadWasAsked) {
  const char *given = std::getenv("SHUNT_QUESTIONS");
  const long questions = given != nullptr ? std::strtol(given, nullptr, 0) : 10'000;
  Things things;
  Sleepers all;
  add_timed(things, all);
  add_endless(things, all);

  for (long k = 0; k < questions; ++k) {
    ask(k % 8 == 0 ? 3 * kMillisecond : 0);
    if (k % 4 == 0) wake_all(things);
  }

  for (const auto &one : all) one->stop();
  std::atomic<bool> stop = false;
  std::thread waker([&] {
    while (!stop) {
      wake_all(things);
      sched_yield();
    }
  });
  for (const auto &one : all) one->join();
  stop = true;
  waker.join();
  std::printf("%u signals\n", passing_.asked);
  EXPECT_GT(passing_.asked, questions);
}

/// However often it is asked.
TEST_F(SignalsTest, ACallWithATimeoutEndsInTimeOfItsOwn) {
  std::atomic<bool> sleeps = false, is_over = false;
  int failed = 0;
  std::uint64_t took = 0;
  std::thread thread([&] {
    const std::uint64_t begin = now_ns();
    const timespec time = after(200);
    sleeps = true;
    failed = error_of(nanosleep(&time, nullptr));
    took = now_ns() - begin;
    is_over = true;
  });
  while (!sleeps) sched_yield();
  const std::uint64_t hang = now_ns() + 60'000 * kMillisecond;
  while (!is_over && now_ns() < hang) ask(0);
  EXPECT_TRUE(is_over) << "it is begun again and again";
  thread.join();
  EXPECT_EQ(failed, 0);
  EXPECT_GE(took, 200 * kMillisecond);
}

}  // namespace
