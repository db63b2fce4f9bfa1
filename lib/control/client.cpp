#include "control/client.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <vector>

namespace shunt::control {
namespace {

using core::Code;
using core::Error;
using core::Fd;
using core::make_error;
using core::Result;
using Deadline = std::chrono::steady_clock::time_point;

Error failed(const char *what, int number) {
  Error error = make_error(Code::system, "%s: %s", what, core::errno_text(number).c_str());
  error.sys_errno = number;
  return error;
}

/// Waits until the socket is ready for `what`. The errno when that does not come, ETIMEDOUT at the deadline.
int wait_for(int socket, short what, Deadline deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd one = {socket, what, 0};
    const int ready = left.count() > 0 ? poll(&one, 1, static_cast<int>(left.count())) : 0;
    if (ready > 0) return 0;
    if (ready == 0) return ETIMEDOUT;
    if (errno != EINTR) return errno;
  }
}

/// The errno, or 0 and a connected socket.
int connect_to(const sockaddr_un &address, Deadline deadline, Fd &socket) {
  socket = Fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.is_open()) return errno;
  while (::connect(socket.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0) {
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return errno;
    // The server's queue is full; a Unix socket does not say when it no longer is.
    if (std::chrono::steady_clock::now() > deadline) return ETIMEDOUT;
    poll(nullptr, 0, 10);
  }
  return 0;
}

int send_message(int socket, const std::string &message, int file, Deadline deadline) {
  iovec bytes = {const_cast<char *>(message.data()), message.size()};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (file >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr *const rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &file, sizeof file);
  }
  while (sendmsg(socket, &header, MSG_NOSIGNAL) < 0) {
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return errno;
    if (const int number = wait_for(socket, POLLOUT, deadline); number != 0) return number;
  }
  return 0;
}

Result<std::string> receive_answer(int socket, Type type, Deadline deadline) {
  std::vector<char> buffer(kMaximumPiece + 1);
  std::string text;
  for (bool more = true; more;) {
    if (const int number = wait_for(socket, POLLIN, deadline); number != 0)
      return failed("no answer from the control socket", number);
    const ssize_t got = recv(socket, buffer.data(), buffer.size(), 0);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) return failed("no answer from the control socket", errno);
    if (got == 0) return failed("the control socket was closed before it answered", EPIPE);
    if (const auto wrong = decode_piece(buffer.data(), static_cast<std::size_t>(got), type, text, more))
      return make_error(Code::bad_request, "the answer of the control socket cannot be understood: %s", wrong->c_str());
  }
  return text;
}

/// A server whose process closed all its descriptors notices that when somebody connects, and makes its socket anew; who
/// connected to the old one is reset.
bool is_worth_another_try(int number) {
  return number == ECONNRESET || number == EPIPE || number == ECONNREFUSED || number == ENOENT;
}

}  // namespace

Result<Client> Client::connect(const std::string &path, std::chrono::milliseconds limit) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return failed(path.c_str(), ENAMETOOLONG);
  std::memcpy(address.sun_path, path.c_str(), path.size());
  const Deadline deadline = std::chrono::steady_clock::now() + limit;
  constexpr int kTries = 5;
  for (int tries = 1;; ++tries) {
    Fd socket;
    int number = connect_to(address, deadline, socket);
    const bool was_there = number == 0;
    if (number == 0) {
      Client client(std::move(socket), limit);
      auto answer = client.ask({});
      if (answer) {
        client.hello_ = std::move(*answer);
        return client;
      }
      if (answer.error().code != Code::system) return answer.error();
      number = answer.error().sys_errno;
    }
    // At the first try, nobody there is nobody there.
    if (tries == kTries || !is_worth_another_try(number) || (tries == 1 && !was_there))
      return failed(("cannot reach " + path).c_str(), number);
    poll(nullptr, 0, 20 * tries);
  }
}

Result<std::string> Client::ask(const Request &request, int file) {
  const std::string message = encode(request);
  if (message.empty()) return make_error(Code::invalid_argument, "the request is too long for one message");
  const Deadline deadline = std::chrono::steady_clock::now() + limit_;
  if (const int number = send_message(socket_.get(), message, file, deadline); number != 0) {
    // A server that refuses a client says why and closes: what it said is still there to be read.
    auto last = receive_answer(socket_.get(), request.type, deadline);
    if (last) return last;
    return failed("the request cannot be sent to the control socket", number);
  }
  return receive_answer(socket_.get(), request.type, deadline);
}

}  // namespace shunt::control
