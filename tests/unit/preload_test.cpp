// The shim's log, where it goes to a file or to the system's log, and what becomes of it when the application closes its descriptor
// and opens something else under that number. The system's log is a socket of the test's own here.
//
// Shown to fail (the guard named at each test taken out of lib/preload/log.cpp, the test seen to fail, the guard put back).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include "base/fd.hpp"
#include "preload/log.hpp"

namespace {

using shunt::core::Fd;
using shunt::preload::Environment;
using shunt::preload::say;
using shunt::preload::start_log;
namespace fs = std::filesystem;

const std::string kName = "shunt[" + std::to_string(getpid()) + "]: ";

class Folder {
 public:
  Folder() {
    std::string path = fs::temp_directory_path() / "shunt-log-XXXXXX";
    EXPECT_NE(mkdtemp(path.data()), nullptr);
    path_ = path;
  }
  Folder(const Folder &) = delete;
  Folder &operator=(const Folder &) = delete;
  ~Folder() { fs::remove_all(path_); }
  [[nodiscard]] fs::path operator/(const char *name) const { return path_ / name; }

 private:
  fs::path path_;
};

/// A daemon that takes the system's log.
class Daemon {
 public:
  explicit Daemon(const fs::path &path) : socket_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path.c_str());
    fs::remove(path);
    EXPECT_EQ(bind(socket_.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address), 0);
  }
  /// The next line, "" when there is none.
  [[nodiscard]] std::string line() const {
    char text[1024];
    const ssize_t size = recv(socket_.get(), text, sizeof text, 0);
    return {text, size > 0 ? static_cast<std::size_t>(size) : 0};
  }

 private:
  Fd socket_;
};

std::string text_of(const fs::path &path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The descriptor that leads to what begins with `target`.
int descriptor_of(const std::string &target) {
  for (const auto &entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code ignored;
    if (fs::read_symlink(entry, ignored).string().rfind(target, 0) == 0) return std::stoi(entry.path().filename());
  }
  return -1;
}

// The descriptor not looked at before a line is written (is_ours()); the path not made absolute.
TEST(ShimLog, FindsItsFileAgainAndWritesIntoNoOther) {
  const Folder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder / "");
  Environment environment;
  environment.log_level = SHUNT_LOG_INFO;
  environment.log_file = "log";
  start_log(environment);
  fs::current_path(before);
  say(SHUNT_LOG_INFO, "the first");
  const int number = descriptor_of(folder / "log");
  ASSERT_GE(number, 0);

  const Fd other(open((folder / "other").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(dup3(other.get(), number, O_CLOEXEC), number);
  say(SHUNT_LOG_INFO, "the second");
  say(SHUNT_LOG_DEBUG, "not asked for");

  const std::string text = text_of(folder / "log");
  EXPECT_NE(text.find("Z " + kName + "info: the first\n"), std::string::npos) << text;
  EXPECT_NE(text.find("Z " + kName + "info: the second\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("not asked for"), std::string::npos) << text;
  EXPECT_EQ(text_of(folder / "other"), "");
  close(number);
}

// write_to_syslog(): no second try; is_ours() not asked; MSG_DONTWAIT and SOCK_NONBLOCK left out (the test hangs).
TEST(ShimLog, GoesToTheSystemsLogAndFollowsItsDaemon) {
  const Folder folder;
  Environment environment;
  environment.log_level = SHUNT_LOG_INFO;
  environment.logs_to_syslog = true;
  environment.syslog_socket = folder / "log";
  std::optional<Daemon> daemon(folder / "log");
  start_log(environment);
  say(SHUNT_LOG_INFO, "the first");
  EXPECT_EQ(daemon->line(), "<30>" + kName + "info: the first");  // daemon.info, as syslog.h numbers it
  say(SHUNT_LOG_ERROR, "the second");
  EXPECT_EQ(daemon->line(), "<27>" + kName + "error: the second");

  daemon.emplace(folder / "log");  // started anew between two lines
  say(SHUNT_LOG_WARNING, "the third");
  EXPECT_EQ(daemon->line(), "<28>" + kName + "warning: the third");
  daemon.reset();
  say(SHUNT_LOG_ERROR, "to nobody");
  const Daemon next(folder / "log");
  say(SHUNT_LOG_INFO, "the fourth");
  EXPECT_EQ(next.line(), "<30>" + kName + "info: the fourth");

  for (int k = 0; k < 10'000; ++k) say(SHUNT_LOG_INFO, "more than it takes");
  EXPECT_EQ(next.line(), "<30>" + kName + "info: more than it takes");
}

}  // namespace
