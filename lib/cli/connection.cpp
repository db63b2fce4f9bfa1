#include "cli/connection.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "cli/plan_text.hpp"

namespace shunt::cli {
namespace {

std::string user_name(uid_t uid) {
  const passwd *user = getpwuid(uid);
  return user != nullptr ? user->pw_name : std::to_string(uid);
}

Failure unreachable(const char *code, const std::string &message, const std::string &advice) {
  return {Exit::unreachable, code, message, advice};
}

std::string as_whom(const Process &process) {
  return process.uid == 0 ? "Run this as root." : "Run this as " + user_name(process.uid) + " or as root.";
}

bool has_ended(const Process &process) {
  const std::optional<Process> now = read_process(process.pid);
  return !now || now->is_dead || now->started != process.started;
}

Failure ended(const Process &process) { return unreachable("no_process", called(process) + " has ended", ""); }

/// Why a process that has no socket of ours cannot be asked.
Failure no_socket(const Process &process) {
  if (has_ended(process)) return ended(process);
  if (!may_inspect(process.pid) && geteuid() == 0)
    return unreachable("not_permitted", "the kernel does not let root look for the socket of " + called(process),
                       "Is this a container, or the process protected by a security module?");
  if (!may_inspect(process.pid))
    return unreachable("not_permitted",
                       called(process) + " belongs to " + user_name(process.uid) + ": " + user_name(geteuid()) +
                           " may not look for its socket",
                       as_whom(process));
  if (has_shunt(process.pid))
    return unreachable("no_socket", called(process) + " has shunt in it but does not listen on a control socket",
                       "Was it started with SHUNT_SOCKET=off? SHUNT_LOG=info tells why it does not listen.");
  return unreachable("no_shunt", "there is no shunt in " + called(process),
                     "Start it with LD_PRELOAD=libshunt-preload.so, or let it call shunt_control_start().");
}

bool is_stopped(const Process &process) {
  const std::optional<Process> now = read_process(process.pid);
  return now && now->started == process.started && now->is_stopped;
}

Failure stopped(const Process &process) {
  return unreachable("no_answer", called(process) + " is stopped (by SIGSTOP, or from a terminal): it cannot answer",
                     "Let it go on, with kill -CONT " + std::to_string(process.pid) + ", and try again.");
}

/// Nobody answered in time.
Failure no_answer(const Process &process, std::chrono::milliseconds limit) {
  if (is_stopped(process)) return stopped(process);
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(limit).count();
  return unreachable(
      "no_answer", called(process) + " did not answer within " + counted(static_cast<std::size_t>(seconds), "second"),
      "Does the constructor of a patch that was just applied not return? Its log (SHUNT_LOG) tells what it did last.");
}

Failure connecting_failed(const Process &process, const std::string &socket, const core::Error &error) {
  if (has_ended(process)) return ended(process);
  const std::string advice = error.sys_errno == EACCES || error.sys_errno == EPERM ? as_whom(process) : "";
  const std::string why = error.sys_errno != 0 ? core::errno_text(error.sys_errno) : error.message;
  return unreachable(core::code_name(error.code), called(process) + " cannot be reached at " + socket + ": " + why,
                     advice);
}

/// The server's "ok":false as a failure.
Failure refused(const Process &process, const Json &answer) {
  const Json &error = part_of(answer, "error");
  const std::string code = text_of(error, "code"), message = text_of(error, "message");
  const char *advice = "";
  if (code == "control_busy") advice = "Others are being served: try again.";
  if (code == "not_permitted")
    advice =
        "A patch must belong to root or the process's user, and nobody else may write it, its group included (chmod "
        "go-w).";
  if (code == "unknown_patch") advice = "`shunt status` lists those that are.";
  if (code == "patch_matches_nothing")
    advice = "`shunt imports PID --symbol NAME` tells who calls a function, and through which slots.";
  return {Exit::no, code, called(process) + ": " + (message.empty() ? "it said no, and not why" : message), advice};
}

Json parse(const Process &process, const std::string &text) {
  Json answer = Json::parse(text, nullptr, false);
  if (answer.is_object() && answer.contains("ok") && answer["ok"].is_boolean()) return answer;
  throw unreachable("bad_answer", called(process) + " answered with something that is not understood", "");
}

/// The number of the process as it sees itself, which is the last of those in /proc/PID/status.
std::string own_number(pid_t pid) {
  core::Fd status(open(("/proc/" + std::to_string(pid) + "/status").c_str(), O_RDONLY | O_CLOEXEC));
  char text[4096];
  const ssize_t size = status.is_open() ? read(status.get(), text, sizeof text) : 0;
  const std::string all(text, size > 0 ? static_cast<std::size_t>(size) : 0);
  const std::size_t at = all.find("\nNSpid:");
  if (at == std::string::npos) return std::to_string(pid);
  const std::string line = all.substr(at + 1, all.find('\n', at + 1) - at - 1);
  return line.substr(line.find_last_of("\t ") + 1);
}

/// A socket at a path of the process: through its root, so that its mount namespace does not matter, and by a descriptor of the
/// socket itself, so that the path may be longer than an address can be (108 bytes).
core::Fd find_socket(pid_t pid, const std::string &path) {
  for (const std::string &root : {"/proc/" + std::to_string(pid) + "/root", std::string()}) {
    core::Fd socket(open((root + path).c_str(), O_PATH | O_CLOEXEC | O_NOFOLLOW));
    struct stat status {};
    if (socket.is_open() && fstat(socket.get(), &status) == 0 && S_ISSOCK(status.st_mode)) return socket;
  }
  return core::Fd();
}

/// A process that was just started, or that just forked, is seen a moment before its thread listens.
std::vector<std::string> wait_for_paths(pid_t pid) {
  constexpr std::chrono::seconds kPatienceForThread{1};
  constexpr int kPollMilliseconds = 10;
  const auto deadline = std::chrono::steady_clock::now() + kPatienceForThread;
  for (;;) {
    std::vector<std::string> paths = listening_paths(pid);
    if (!paths.empty() || !has_shunt(pid) || std::chrono::steady_clock::now() > deadline) return paths;
    poll(nullptr, 0, kPollMilliseconds);
  }
}

}  // namespace

std::string called(const Process &process) {
  return "process " + std::to_string(process.pid) + " (" + process.name + ")";
}

Connection::Connection(Process process, control::Client client, Json hello, std::string socket,
                       std::chrono::milliseconds limit)
    : process_(std::move(process)),
      client_(std::make_unique<control::Client>(std::move(client))),
      hello_(std::move(hello)),
      socket_(std::move(socket)),
      limit_(limit) {}

Connection Connection::open(const Process &process, std::chrono::milliseconds limit) {
  if (is_stopped(process)) throw stopped(process);
  std::optional<Failure> last;
  for (const std::string &path : wait_for_paths(process.pid)) {
    const core::Fd socket = find_socket(process.pid, path);
    if (!socket.is_open()) {
      last = unreachable("no_socket", called(process) + " listens on " + path + ", which is not there any more", "");
      continue;
    }
    auto client = control::Client::connect("/proc/self/fd/" + std::to_string(socket.get()), limit);
    if (!client) {
      const bool is_late = client.error().sys_errno == ETIMEDOUT;
      last = is_late ? no_answer(process, limit) : connecting_failed(process, path, client.error());
      continue;
    }
    Json hello = parse(process, client->hello());
    if (!hello["ok"].get<bool>()) {
      last = refused(process, hello);
      last->exit = Exit::unreachable;
      if (last->code == "not_permitted") last->advice = as_whom(process);
    } else if (hello.value("pid", Json()).dump() != own_number(process.pid)) {
      last = unreachable("no_socket", called(process) + " listens on " + path + ", where another process answers", "");
    } else {
      return Connection(process, std::move(*client), std::move(hello), path, limit);
    }
  }
  throw last ? *last : no_socket(process);
}

Json Connection::ask(const control::Request &request, int file) {
  core::Result<std::string> text = client_->ask(request, file);
  if (!text) {
    const core::Error &error = text.error();
    if (error.sys_errno == ETIMEDOUT) {
      Failure late = no_answer(process_, limit_);
      late.message += "; what it was asked may still be done";
      throw Refusal{late, nullptr};
    }
    const bool is_ours = error.code == core::Code::invalid_argument;  // nothing was sent
    throw Refusal{{is_ours ? Exit::usage : Exit::unreachable, core::code_name(error.code),
                   called(process_) + ": " + error.message, ""},
                  nullptr};
  }
  Json answer = parse(process_, *text);
  if (!answer["ok"].get<bool>()) throw Refusal{refused(process_, answer), std::move(answer)};
  return answer;
}

core::Fd Connection::open_folder() const {
  const std::string folder = socket_.substr(0, socket_.rfind('/') + 1);
  return core::Fd(
      ::open(("/proc/" + std::to_string(process_.pid) + "/root" + folder).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

}  // namespace shunt::cli
