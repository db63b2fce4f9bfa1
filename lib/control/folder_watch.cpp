#include "control/folder_watch.hpp"

#include <fcntl.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/fd.hpp"

namespace shunt::control {

bool FolderWatch::start() {
  inotify_ = core::GuardedFd::keep(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!inotify_.is_open()) return false;
  if (inotify_add_watch(inotify_.fd, folder_.path().c_str(), IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ONLYDIR) <
      0) {
    const int number = errno;
    inotify_.close();
    errno = number;
    return false;
  }
  watched_ = watched();
  return true;
}

bool FolderWatch::is_ours() const { return inotify_.is_ours() && watched() == watched_; }

void FolderWatch::close() {
  if (is_ours()) inotify_.close();
  inotify_ = {};
}

/// The line "inotify wd:1 ino:… sdev:… mask:…" of /proc/self/fdinfo/N, "" when there is none.
std::string FolderWatch::watched() const {
  char text[1024];
  const core::Fd info(open(("/proc/self/fdinfo/" + std::to_string(inotify_.fd)).c_str(), O_RDONLY | O_CLOEXEC));
  const ssize_t size = info.is_open() ? read(info.get(), text, sizeof text - 1) : 0;
  text[size > 0 ? size : 0] = '\0';
  const char *const line = std::strstr(text, "inotify ");
  return line != nullptr ? std::string(line, std::strcspn(line, "\n")) : "";
}

void FolderWatch::read_events() {
  alignas(inotify_event) char buffer[4096];
  while (is_ours()) {
    const ssize_t got = read(inotify_.fd, buffer, sizeof buffer);
    if (got <= 0) return;
    for (const char *at = buffer; at < buffer + got;) {
      const auto *event = reinterpret_cast<const inotify_event *>(at);
      at += sizeof *event + event->len;
      if ((event->mask & IN_Q_OVERFLOW) != 0)
        folder_.look_at_all();
      else if (event->len > 0)
        folder_.look_at(event->name);
    }
  }
}

}  // namespace shunt::control
