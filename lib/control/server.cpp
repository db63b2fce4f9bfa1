#include "control/server.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/fd.hpp"
#include "base/log.hpp"
#include "control/answers.hpp"
#include "control/protocol.hpp"
#include "control/requests.hpp"

namespace shunt::control {
namespace {

using core::Code;
using core::Fd;
using core::GuardedFd;
using core::log;
using core::make_error;

/// The descriptors that came with a message.
std::vector<Fd> descriptors_of(msghdr &message) {
  std::vector<Fd> all;
  for (cmsghdr *part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t k = 0; k < count; ++k) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + k * sizeof fd, sizeof fd);
      all.emplace_back(fd);
    }
  }
  return all;
}

/// The type that a message says it has, for the answer to it; 0 when it is too short.
std::uint16_t type_of(const char *bytes, std::size_t size) {
  Header header;
  if (size < sizeof header) return 0;
  std::memcpy(&header, bytes, sizeof header);
  return header.type;
}

Server::Time now() { return std::chrono::steady_clock::now(); }

}  // namespace

// ---- the socket

std::optional<core::Error> Server::open(const std::string &given, bool is_child) {
  given_ = given;
  is_child_ = is_child;
  auto listening = start_listening(given, is_child);
  if (!listening) return listening.error();
  listening_ = std::move(*listening);
  is_wanted_ = true;
  log(SHUNT_LOG_DEBUG, "listening at %s", listening_.path.c_str());
  return std::nullopt;
}

bool Server::repair() {
  if (!is_wanted_ || listening_.socket.is_ours()) return true;
  const bool is_first = listening_.socket.is_open();
  listening_.socket = {};
  remove_socket(listening_.path, listening_.device, listening_.inode);
  auto listening = start_listening(given_, is_child_);
  if (listening) {
    listening_ = std::move(*listening);
    log(SHUNT_LOG_INFO, "the application has closed the control socket: it is made anew at %s",
        listening_.path.c_str());
    return true;
  }
  if (is_first)
    log(SHUNT_LOG_ERROR, "the application has closed the control socket, and there is no other yet: %s",
        listening.error().message.c_str());
  return false;
}

void Server::forget() {
  listening_.socket.close();
  listening_ = {};
  for (Client &client : clients_) drop(client);
  is_wanted_ = false;
}

// ---- the round

void Server::add_sources(std::vector<pollfd> &sources) {
  if (listening_.socket.is_ours()) sources.push_back({listening_.socket.fd, POLLIN, 0});
  for (Client &client : clients_) {
    if (!client.is_there()) continue;
    if (!client.socket.is_ours()) {
      drop(client);  // the application closed it
      continue;
    }
    const short what = client.has_answer ? POLLOUT : POLLIN;
    sources.push_back({client.socket.fd, what, 0});
  }
}

std::optional<Server::Time> Server::deadline() const {
  std::optional<Time> first;
  for (const Client &client : clients_) {
    if (!client.is_there()) continue;
    const Time end = client.since + (client.has_answer ? kSlowest : kSilent);
    if (!first || end < *first) first = end;
  }
  return first;
}

void Server::serve(const std::vector<pollfd> &sources) {
  bool has_newcomers = false;
  for (const pollfd &source : sources) {
    if (source.revents == 0) continue;
    if (source.fd == listening_.socket.fd) {
      has_newcomers = true;
      continue;
    }
    const auto client = std::find_if(clients_.begin(), clients_.end(),
                                     [&](const Client &one) { return one.is_there() && one.socket.fd == source.fd; });
    if (client == clients_.end()) continue;
    // Who hung up may have left a request before; it is done, so that it does not matter how soon its sender dies.
    if ((source.revents & POLLIN) != 0)
      receive(*client, now());
    else if ((source.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0)
      drop(*client);
    else
      send(*client, now());
  }
  // Last: a newcomer may get the number of a client that has left, and what was seen there is not about the newcomer.
  if (has_newcomers) accept_clients();
  const Time at = now();
  for (Client &client : clients_) {
    if (!client.is_there() || at < client.since + (client.has_answer ? kSlowest : kSilent)) continue;
    log(SHUNT_LOG_DEBUG, "a client of the control socket is too slow and is closed (uid %u, pid %d)", client.who.uid,
        client.who.pid);
    drop(client);
  }
}

// ---- newcomers

void Server::accept_clients() {
  for (std::size_t k = 0; k < kClients && listening_.socket.is_ours(); ++k) {
    const int fd = accept4(listening_.socket.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
    if (fd < 0) return;
    accept_client(fd, now());
  }
}

void Server::accept_client(int accepted, Time at) {
  GuardedFd socket = GuardedFd::keep(accepted);
  if (!socket.is_open()) return;
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(socket.fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return socket.close();
  if (peer.uid != 0 && peer.uid != geteuid()) {
    log(SHUNT_LOG_WARNING,
        "a client of the control socket is refused: uid %u (pid %d) is neither root nor this process's user", peer.uid,
        peer.pid);
    refuse(socket.fd, make_error(Code::not_permitted,
                                 "user %u may not ask this process, which runs as user %u: only that user and root may",
                                 peer.uid, geteuid()));
    return socket.close();
  }
  Client *const place = place_for_newcomer(at);
  if (place == nullptr) {
    refuse(socket.fd, make_error(Code::control_busy, "the process serves %zu clients already: try again", kClients));
    return socket.close();
  }
  drop(*place);
  place->socket = socket;
  place->who = {core::How::control, peer.uid, peer.pid};
  place->since = at;
}

/// A free one; or that of the client that has been silent for longest, if long enough.
Server::Client *Server::place_for_newcomer(Time at) {
  const auto free = std::find_if(clients_.begin(), clients_.end(), [](const Client &one) { return !one.is_there(); });
  if (free != clients_.end()) return &*free;
  const auto oldest = std::min_element(clients_.begin(), clients_.end(),
                                       [](const Client &a, const Client &b) { return a.since < b.since; });
  return at - oldest->since >= kPatience ? &*oldest : nullptr;
}

/// One message to somebody who is closed at once.
void Server::refuse(int fd, const core::Error &error) {
  std::size_t offset = 0;
  const std::string message = encode_piece(0, answer_error(error), offset);
  (void)::send(fd, message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

// ---- clients

void Server::receive(Client &client, Time at) {
  if (!client.socket.is_ours()) return drop(client);
  constexpr std::size_t kDescriptors = 253;  // the kernel sends no more with one message (SCM_MAX_FD)
  alignas(cmsghdr) char control[CMSG_SPACE(kDescriptors * sizeof(int))];
  buffer_.resize(kMaximumRequest);
  iovec bytes = {buffer_.data(), buffer_.size()};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t got = recvmsg(client.socket.fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return drop(client);
  std::vector<Fd> files = descriptors_of(message);
  client.since = at;
  const auto size = static_cast<std::size_t>(got);
  const std::uint16_t type = type_of(buffer_.data(), size);
  Request request;
  std::optional<std::string> wrong;
  if ((message.msg_flags & MSG_TRUNC) != 0)
    wrong = "the message is longer than " + std::to_string(kMaximumRequest) + " bytes";
  else if ((message.msg_flags & MSG_CTRUNC) != 0 || files.size() > 1)
    wrong = "more than one descriptor came with the message";
  else
    wrong = decode(buffer_.data(), size, request);
  buffer_.clear();
  buffer_.shrink_to_fit();  // the thread sleeps for most of its life
  if (wrong) {
    log(SHUNT_LOG_WARNING, "a request is refused: %s (uid %u, pid %d)", wrong->c_str(), client.who.uid, client.who.pid);
    answer(client, type, answer_bad_request(*wrong));
  } else {
    answer(client, type, answer_to(request, files.empty() ? Fd() : std::move(files[0]), client.who, listening_.path));
  }
  send(client, now());
}

void Server::answer(Client &client, std::uint16_t type, std::string text) {
  client.answer = std::move(text);
  client.type = type;
  client.offset = 0;
  client.has_answer = true;
}

void Server::send(Client &client, Time at) {
  while (client.has_answer) {
    if (!client.socket.is_ours()) return drop(client);
    std::size_t next = client.offset;
    const std::string message = encode_piece(client.type, client.answer, next);
    const ssize_t sent = ::send(client.socket.fd, message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS)) return;
    if (sent < 0) return drop(client);
    client.since = at;
    client.offset = next;
    client.has_answer = next < client.answer.size();
  }
  client.answer = {};
}

void Server::drop(Client &client) {
  client.socket.close();
  client = Client();
}

}  // namespace shunt::control
