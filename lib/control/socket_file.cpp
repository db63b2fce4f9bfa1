#include "control/socket_file.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/fd.hpp"
#include "base/log.hpp"
#include "patch/file_rules.hpp"

namespace shunt::control {
namespace {

using core::Code;
using core::Error;
using core::Fd;
using core::GuardedFd;
using core::make_error;
using core::Result;

constexpr int kBacklog = 64;

Error failed(const std::string &path, const char *what, int number) {
  return core::file_error(Code::system, path, what, number);
}

std::string folder_of(const std::string &path) { return path.substr(0, path.rfind('/')); }

bool fill(sockaddr_un &address, const std::string &path) {
  address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, path.c_str(), path.size());
  return true;
}

/// Nobody listens at the path any more. Only what refuses a connection is dead; a queue that is full is not.
bool is_dead(const std::string &path) {
  sockaddr_un address;
  struct stat status {};
  if (!fill(address, path) || lstat(path.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode)) return false;
  const Fd probe(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return probe.is_open() && connect(probe.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0 &&
         errno == ECONNREFUSED;
}

/// A socket that is bound and does not listen yet looks dead; so who makes one and who removes dead ones take turns, by a lock
/// on the folder. Never waited for long: the holder may have been stopped.
class Turn {
 public:
  Turn(const std::string &folder, int tries) : folder_(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    for (; folder_.is_open() && tries > 0; --tries) {
      holds_ = flock(folder_.get(), LOCK_EX | LOCK_NB) == 0;
      if (holds_ || tries == 1) break;
      poll(nullptr, 0, 2);
    }
  }
  [[nodiscard]] bool holds() const { return holds_; }

 private:
  Fd folder_;
  bool holds_ = false;
};

/// Bound, or not open with errno.
Fd bind_at(const std::string &path) {
  sockaddr_un address;
  if (!fill(address, path)) {
    errno = ENAMETOOLONG;
    return Fd();
  }
  Fd bound(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!bound.is_open()) return Fd();
  fchmod(bound.get(), 0600);  // what the file is made with
  if (bind(bound.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0) return bound;
  const int number = errno;
  bound = Fd();
  errno = number;
  return Fd();
}

/// At the first of the paths that nobody else listens at.
Result<Listening> listen_at_one_of(const std::vector<std::string> &paths) {
  const Turn turn(folder_of(paths[0]), 25);
  for (const std::string &path : paths) {
    Fd bound = bind_at(path);
    if (!bound.is_open() && errno == EADDRINUSE) {
      if (!is_dead(path)) continue;
      unlink(path.c_str());
      bound = bind_at(path);
    }
    if (!bound.is_open()) return failed(path, "cannot be made a socket", errno);
    struct stat status {};
    if (listen(bound.get(), kBacklog) != 0 || lstat(path.c_str(), &status) != 0)
      return failed(path, "cannot be listened at", errno);
    const int fd = dup(bound.get());
    Listening listening{GuardedFd::keep(fd), path, status.st_dev, status.st_ino};
    if (!listening.socket.is_open()) return failed(path, "cannot be kept open", errno);
    return listening;
  }
  return failed(paths.back(), "and the names beside it are taken", EADDRINUSE);
}

/// `first`, then `next`.1, `next`.2 and so on with `end` behind them: process numbers may be there twice, in different
/// namespaces that share a folder.
std::vector<std::string> candidates(const std::string &first, const std::string &next, const char *end) {
  constexpr int kTries = 8;
  std::vector<std::string> paths = {first};
  for (int k = 1; k < kTries; ++k) paths.push_back(next + "." + std::to_string(k) + end);
  return paths;
}

Result<Listening> listen_as_told(const std::string &given, bool is_child) {
  const std::string own = given + "." + std::to_string(getpid());
  if (auto unsafe = make_folder(folder_of(given), false)) return *unsafe;
  std::vector<std::string> paths = candidates(own, own, "");
  if (!is_child) paths.insert(paths.begin(), given);
  return listen_at_one_of(paths);
}

}  // namespace

Result<std::string> absolute_path(const std::string &path) {
  const std::size_t slash = path.rfind('/');
  const std::string name = path.substr(slash + 1);
  if (name.empty() || name == "." || name == "..")
    return make_error(Code::invalid_argument, "'%s' cannot be the path of a socket", path.c_str());
  std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return failed(folder, "cannot be made a folder", errno);
  char real[PATH_MAX];
  if (realpath(folder.c_str(), real) == nullptr) return failed(folder, "cannot be used as a folder", errno);
  folder = real;
  return (folder == "/" ? "" : folder) + "/" + name;
}

std::optional<Error> make_folder(const std::string &folder, bool is_private) {
  const char *const path = folder.empty() ? "/" : folder.c_str();
  if (mkdir(path, 0700) != 0 && errno != EEXIST) return failed(path, "cannot be made a folder", errno);
  const Fd opened(open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status {};
  if (!opened.is_open() || fstat(opened.get(), &status) != 0) return failed(path, "cannot be used as a folder", errno);
  const char *why = core::why_not_trusted(status);
  if (is_private && status.st_uid != geteuid())
    why = "it belongs to another user";
  else if (is_private && (status.st_mode & 077) != 0)
    why = "others may enter it (its mode must be 0700)";
  if (why == nullptr) return std::nullopt;
  Error error = make_error(Code::not_permitted, "%s is not used for the control socket: %s", path, why);
  error.object = path;
  return error;
}

Result<Listening> start_listening(const std::string &given, bool is_child) {
  if (!given.empty()) return listen_as_told(given, is_child);
  std::vector<std::string> folders;
  if (const char *runtime = secure_getenv("XDG_RUNTIME_DIR"); runtime != nullptr && *runtime == '/')
    folders.push_back(std::string(runtime) + "/shunt");
  folders.push_back("/run/shunt");
  folders.push_back("/tmp/shunt-" + std::to_string(geteuid()));
  Error last;
  for (const std::string &folder : folders) {
    auto unsafe = make_folder(folder, true);
    if (!unsafe) {
      const std::string stem = folder + "/" + std::to_string(getpid());
      auto listening = listen_at_one_of(candidates(stem + ".sock", stem, ".sock"));
      if (listening) return listening;
      unsafe = listening.error();
    }
    last = *unsafe;
  }
  return last;
}

void remove_stale_sockets(const std::string &path) {
  const std::string folder = folder_of(path);
  struct stat status {};
  if (lstat(folder.c_str(), &status) != 0 || status.st_uid != geteuid() || (status.st_mode & 077) != 0) return;
  const Turn turn(folder, 1);
  DIR *const opened = turn.holds() ? opendir(folder.c_str()) : nullptr;
  if (opened == nullptr) return;
  constexpr int kLookedAt = 1024, kProbed = 64;
  int looked_at = 0, probed = 0;
  while (const dirent *entry = readdir(opened)) {
    if (++looked_at > kLookedAt || probed == kProbed) break;
    char *end = nullptr;
    const long pid = std::strtol(entry->d_name, &end, 10);
    const std::size_t size = std::strlen(entry->d_name);
    if (pid <= 0 || pid > INT_MAX || end == entry->d_name || size < 5 ||
        std::strcmp(entry->d_name + size - 5, ".sock") != 0)
      continue;
    // A process that lives is not disturbed. One of another namespace may live all the same, and answers then.
    if (kill(static_cast<pid_t>(pid), 0) == 0 || errno != ESRCH) continue;
    const std::string name = folder + "/" + entry->d_name;
    ++probed;
    if (is_dead(name)) unlink(name.c_str());
  }
  closedir(opened);
}

void remove_socket(const std::string &path, dev_t device, ino_t inode) {
  struct stat status {};
  if (lstat(path.c_str(), &status) == 0 && status.st_dev == device && status.st_ino == inode) unlink(path.c_str());
}

}  // namespace shunt::control
