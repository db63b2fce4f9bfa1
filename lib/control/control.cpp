#include "control/control.hpp"

#include <pthread.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "base/log.hpp"
#include "control/folder_watch.hpp"
#include "control/lock.hpp"
#include "control/server.hpp"
#include "control/wake.hpp"
#include "threads/at_rest.hpp"
#include "threads/thread_list.hpp"

namespace shunt::control {
namespace {

using core::Code;
using core::Done;
using core::log;
using core::make_error;
using core::OwnedMutex;
using core::Result;
using std::chrono::milliseconds;

constexpr std::size_t kStackBytes = std::size_t{256} << 10;  // a patch's constructors run on it
constexpr int kChildWaitsMs = 20;
constexpr int kFirstLookMs = 1000, kSlowestLookMs = 60 * 1000;

/// The socket's file, for exit() and for whoever asks for its path, on any thread. None is ever freed.
struct SocketFile {
  std::string path;
  dev_t device;
  ino_t inode;
  pid_t pid;
  const SocketFile *previous;
};
std::atomic<const SocketFile *> socket_file = nullptr;
const SocketFile *socket_files = nullptr;  // all that were ever made

std::atomic<Wake *> wake = nullptr;

std::atomic<bool> is_to_look = false;  // through the folder

void ring() { wake.load(std::memory_order_acquire)->ring(); }

void on_signal(int) {
  is_to_look.store(true);
  ring();
}

void remove_at_exit() {
  const SocketFile *const file = socket_file.exchange(nullptr);
  if (file != nullptr && file->pid == getpid()) remove_socket(file->path, file->device, file->inode);
}

/// What the thread works on, and what who starts it does before. One for the process; never destroyed.
class Control {
 public:
  Result<Done> start(const Options &options);
  OwnedMutex &mutex() { return mutex_; }
  void after_fork_in_child();
  void run(bool is_child);

 private:
  bool start_thread(bool is_child);
  void begin_in_child();
  void announce();
  bool repair();
  int timeout_ms(bool is_whole);
  static int wait(std::vector<pollfd> &sources, int timeout);
  void round(const std::vector<pollfd> &sources);
  void look_whether_taken_over();

  OwnedMutex mutex_;
  bool is_started_ = false;
  Options options_;
  Server server_;
  std::optional<FolderWatch> folder_;
  bool is_taken_over_told_ = false, is_watch_failure_told_ = false;
  int look_ms_ = kFirstLookMs;
};

Control &control() {
  static auto *const one = new Control;
  return *one;
}

// ---- start

Result<Done> Control::start(const Options &options) {
  const OwnedMutex::Guard guard(mutex_);
  if (!guard) return make_error(Code::busy, "shunt_control_start() was called by a patch that it just loads");
  if (is_started_)
    return make_error(Code::wrong_state, "the control thread runs already%s%s", *path() != '\0' ? ", at " : "", path());
  if (getauxval(AT_SECURE) != 0)
    return make_error(Code::not_permitted,
                      "this program runs with more rights than its user: it has no control socket");
  options_ = options;
  if (options_.has_socket && !options_.socket.empty()) {
    const auto absolute = absolute_path(options_.socket);
    if (!absolute) return absolute.error();
    options_.socket = *absolute;
  }
  if (!options_.folder.empty()) folder_.emplace(options_.folder);
  Wake *const bell = Wake::make(nullptr);
  if (bell == nullptr)
    return make_error(Code::system, "no descriptors for the control thread: %s", core::errno_text(errno).c_str());
  wake.store(bell, std::memory_order_release);
  if (options_.has_socket) {
    if (const auto failed = server_.open(options_.socket, false)) {
      bell->close();
      folder_.reset();
      return *failed;
    }
    announce();
  }
  const bool has_something_to_wait_for = options_.has_socket || folder_;
  if (has_something_to_wait_for && !start_thread(false)) {  // it waits for the mutex
    const int number = errno;
    remove_at_exit();
    server_.forget();
    bell->close();
    folder_.reset();
    return make_error(Code::system, "there is no thread for the control socket: %s", core::errno_text(number).c_str());
  }
  for (const std::string &patch : options_.patches) apply_at_start(patch);
  if (!has_something_to_wait_for) {
    bell->close();
    return Done{};
  }
  is_started_ = true;
  core::Registry::instance().ring_when_draining(&ring);
  if (folder_) {
    repair();
    folder_->folder().look_at_all();
  }
  if (options_.signal != 0) {
    struct sigaction action {};
    action.sa_handler = &on_signal;
    action.sa_flags = SA_RESTART;
    sigaction(options_.signal, &action, nullptr);
  }
  return Done{};
}

void *run_in_parent(void *) {
  control().run(false);
  return nullptr;
}
void *run_in_child(void *) {
  control().run(true);
  return nullptr;
}

/// False, with errno.
bool Control::start_thread(bool is_child) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(
      &attributes, std::max<std::size_t>(kStackBytes, static_cast<std::size_t>(sysconf(_SC_THREAD_STACK_MIN))));
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int failed = pthread_create(&thread, &attributes, is_child ? &run_in_child : &run_in_parent, nullptr);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  errno = failed;
  return failed == 0;
}

/// Makes the socket's path known.
void Control::announce() {
  const Listening &listening = server_.listening();
  socket_files = new SocketFile{listening.path, listening.device, listening.inode, getpid(), socket_files};
  socket_file.store(socket_files);
}

// ---- fork

void Control::after_fork_in_child() {
  socket_file.store(nullptr);
  // A fork by a patch that this very thread just loads: it goes on here, and the child has no thread of its own.
  if (mutex_.after_fork_in_child() || !is_started_) return;
  server_.forget();
  Wake *const parents = wake.load();
  if (Wake *const own = Wake::make(parents)) wake.store(own);
  parents->close();
  if (folder_) folder_->close();
  if (!start_thread(true))
    log(SHUNT_LOG_ERROR, "the child has no thread for the control socket: %s", core::errno_text(errno).c_str());
}

/// On the child's thread, with the mutex held.
void Control::begin_in_child() {
  if (options_.has_socket) {
    if (const auto failed = server_.open(options_.socket, true))
      log(SHUNT_LOG_ERROR, "the child has no control socket: %s", failed->message.c_str());
    else
      announce();
  }
  if (!folder_) return;
  repair();
  folder_->folder().look_at_all();  // what was not yet taken in when the parent forked
}

// ---- the thread

void Control::run(bool is_child) {
  pthread_setname_np(pthread_self(), "shunt");
  if (is_child) poll(nullptr, 0, kChildWaitsMs);
  std::vector<pollfd> sources;
  for (bool is_first = true;; is_first = false) {
    int timeout = -1;
    try {
      const OwnedMutex::Guard guard(mutex_);
      if (is_first && !is_child && options_.has_socket && options_.socket.empty()) remove_stale_sockets(server_.path());
      if (is_first && is_child) begin_in_child();
      const bool is_whole = repair();
      sources.clear();
      sources.push_back({wake.load()->read_end.fd, POLLIN, 0});
      sources.push_back({folder_ && folder_->is_ours() ? folder_->fd() : -1, POLLIN, 0});
      server_.add_sources(sources);
      timeout = timeout_ms(is_whole);
    } catch (const std::bad_alloc &) {
      timeout = kFirstLookMs;  // the application is out of memory, which it will notice by itself
    }
    const int ready = wait(sources, timeout);
    if (ready < 0) continue;
    try {
      const OwnedMutex::Guard guard(mutex_);
      round(sources);
    } catch (const std::bad_alloc &) {
    }
  }
}

/// As poll().
int Control::wait(std::vector<pollfd> &sources, int timeout) {
  const core::AtRest at_rest;
  return poll(sources.data(), sources.size(), timeout);
}

void Control::round(const std::vector<pollfd> &sources) {
  look_whether_taken_over();
  if (folder_ && sources.size() > 1 && sources[1].revents != 0) folder_->read_events();
  if (!sources.empty() && sources[0].revents != 0 && wake.load()->take() && is_to_look.exchange(false) && folder_)
    folder_->folder().look_at_all();
  server_.serve(sources);
  const core::OwnedMutex::Away away(mutex_);  // destructors of a patch may run
  core::Registry::instance().drain(core::Question::kOwnThread);
}

/// Makes anew what the application closed. False when that failed for something.
bool Control::repair() {
  bool is_whole = true;
  if (Wake *const bell = wake.load(); !bell->is_ours()) {
    Wake *const fresh = Wake::make(bell);
    is_whole = fresh != nullptr;
    if (fresh != nullptr) {
      wake.store(fresh);
      bell->close();
    }
  }
  const core::GuardedFd before = server_.listening().socket;
  if (!server_.repair())
    is_whole = false;
  else if (const core::GuardedFd after = server_.listening().socket; after.inode != before.inode && after.is_open())
    announce();
  if (folder_ && !folder_->is_ours()) {
    const bool was_watched = folder_->fd() >= 0;
    if (folder_->start()) {
      is_watch_failure_told_ = false;
      if (was_watched) folder_->folder().look_at_all();  // what came while nobody watched
    } else {
      is_whole = false;
      if (!is_watch_failure_told_)
        log(SHUNT_LOG_ERROR, "SHUNT_DIR=%s cannot be watched: %s", options_.folder.c_str(),
            core::errno_text(errno).c_str());
      is_watch_failure_told_ = true;
    }
  }
  return is_whole;
}

/// For poll(): for ever, unless a client may become too slow, or there is something to look at now and then.
int Control::timeout_ms(bool is_whole) {
  int timeout = -1;
  if (const auto next = core::Registry::instance().next_drain()) {
    const std::uint64_t now = core::now_ns();
    timeout = *next <= now ? 0 : static_cast<int>((*next - now) / 1'000'000 + 1);
  }
  if ((options_.signal != 0 && !is_taken_over_told_) || !is_whole) {
    timeout = timeout < 0 ? look_ms_ : std::min(timeout, look_ms_);
    look_ms_ = std::min(2 * look_ms_, kSlowestLookMs);
  }
  if (const auto deadline = server_.deadline()) {
    const auto left = std::chrono::ceil<milliseconds>(*deadline - std::chrono::steady_clock::now());
    const int left_ms = static_cast<int>(std::max<milliseconds::rep>(left.count(), 0));
    timeout = timeout < 0 ? left_ms : std::min(timeout, left_ms);
  }
  return timeout;
}

void Control::look_whether_taken_over() {
  struct sigaction now {};
  if (options_.signal == 0 || is_taken_over_told_ || sigaction(options_.signal, nullptr, &now) != 0 ||
      now.sa_handler == &on_signal)
    return;
  is_taken_over_told_ = true;
  log(SHUNT_LOG_WARNING, "the application has taken SIG%s over: it no longer makes shunt look through %s",
      sigabbrev_np(options_.signal), options_.folder.c_str());
}

}  // namespace

Result<Done> start(const Options &options) {
  core::Registry::instance();  // it and the engine are used with the mutex held, so their handlers are made before ours
  static const int registered = [] {
    std::atexit(&remove_at_exit);
    return pthread_atfork([] { control_mutex().before_fork(); }, [] { control_mutex().after_fork_in_parent(); },
                          [] { control().after_fork_in_child(); });
  }();
  if (registered != 0) return make_error(Code::out_of_memory, "no memory for the control thread");
  return control().start(options);
}

core::OwnedMutex &control_mutex() { return control().mutex(); }

const char *path() {
  const SocketFile *const file = socket_file.load();
  return file != nullptr ? file->path.c_str() : "";
}

}  // namespace shunt::control
