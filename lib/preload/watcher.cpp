#include "preload/watcher.hpp"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "preload/log.hpp"

namespace shunt::preload {
namespace {

constexpr std::size_t kStackBytes = std::size_t{256} << 10;  // a patch's constructors run on it
constexpr int kFirstLookMs = 1000, kSlowestLookMs = 60 * 1000;

Folder *folder = nullptr;
int watched_signal = 0;
int wake_fd = -1, inotify_fd = -1;
bool is_taken_over_told = false;

void on_signal(int) {
  const int saved = errno;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_fd, &one, sizeof one);
  errno = saved;
}

void look_whether_taken_over() {
  struct sigaction now {};
  if (is_taken_over_told || sigaction(watched_signal, nullptr, &now) != 0 || now.sa_handler == &on_signal) return;
  is_taken_over_told = true;
  say(SHUNT_LOG_WARNING, std::string("the application has taken SIG") + sigabbrev_np(watched_signal) +
                             " over: it no longer makes shunt look through " + folder->path());
}

void read_inotify() {
  alignas(inotify_event) char buffer[4096];
  for (;;) {
    const ssize_t got = read(inotify_fd, buffer, sizeof buffer);
    if (got <= 0) return;
    for (const char *at = buffer; at < buffer + got;) {
      const auto *event = reinterpret_cast<const inotify_event *>(at);
      at += sizeof *event + event->len;
      if ((event->mask & IN_Q_OVERFLOW) != 0)
        folder->look_at_all();
      else if (event->len > 0)
        folder->look_at(event->name);
    }
  }
}

void *watch(void *) {
  pthread_setname_np(pthread_self(), "shunt");
  folder->look_at_all();  // what came before the watch was set, or was not yet taken in when the parent forked
  for (int wait_ms = kFirstLookMs;;) {
    pollfd sources[] = {{inotify_fd, POLLIN, 0}, {wake_fd, POLLIN, 0}};
    const int ready = poll(sources, 2, watched_signal != 0 && !is_taken_over_told ? wait_ms : -1);
    if (watched_signal != 0) look_whether_taken_over();
    if (ready == 0) wait_ms = std::min(wait_ms * 2, kSlowestLookMs);
    if (ready <= 0) continue;
    if (((sources[0].revents | sources[1].revents) & POLLNVAL) != 0) {
      say(SHUNT_LOG_ERROR,
          "the application has closed shunt's descriptors: " + folder->path() + " is no longer watched");
      return nullptr;
    }
    if (sources[0].revents != 0) read_inotify();
    std::uint64_t times = 0;
    if (sources[1].revents != 0 && read(wake_fd, &times, sizeof times) > 0) folder->look_at_all();
  }
}

void start_thread() {
  inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (inotify_fd < 0 || wake_fd < 0 ||
      inotify_add_watch(inotify_fd, folder->path().c_str(), IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ONLYDIR) < 0)
    return say(SHUNT_LOG_ERROR, "SHUNT_DIR=" + folder->path() + " cannot be watched: " + strerrordesc_np(errno));
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int failed = pthread_create(&thread, &attributes, &watch, nullptr);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (failed != 0) say(SHUNT_LOG_ERROR, std::string("no thread to watch SHUNT_DIR: ") + strerrordesc_np(failed));
}

void start_in_child() {
  folder->unlock();
  // The parent's descriptors are shared with it: a wake-up must not reach the wrong process.
  close(inotify_fd);
  close(wake_fd);
  start_thread();
}

}  // namespace

void start_watching(const std::string &path, int signal) {
  folder = new Folder(path);
  watched_signal = signal;
  folder->look_at_all();
  start_thread();
  if (signal != 0) {
    struct sigaction action {};
    action.sa_handler = &on_signal;
    action.sa_flags = SA_RESTART;
    sigaction(signal, &action, nullptr);
  }
  // Handlers that run before a fork run in reverse order: the engine's, made when the log was set, locks last, as the thread does.
  pthread_atfork([] { folder->lock(); }, [] { folder->unlock(); }, &start_in_child);
}

}  // namespace shunt::preload
