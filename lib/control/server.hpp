// server.hpp: the control socket and its clients. It never waits for one of them: everything is non-blocking, what is pending
// for a client is bounded by one answer, and the number of clients is. A client's next request is not read before it has taken
// the answer to the last. What lies between two clients is no more than the operation that one of them asked for.
//
// Used by one thread at a time, see control.cpp.
#pragma once

#include <poll.h>

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "control/socket_file.hpp"
#include "patch/registry.hpp"

namespace shunt::control {

class Server {
 public:
  static constexpr std::size_t kClients = 16;
  using Time = std::chrono::steady_clock::time_point;

  /// Listens; see start_listening(). `given`: an absolute path, or "".
  std::optional<core::Error> open(const std::string &given, bool is_child);
  /// Makes the socket anew when the application closed it. False when that fails.
  bool repair();
  [[nodiscard]] bool is_wanted() const { return is_wanted_; }

  /// Adds what to wait for. Only what is ours is waited for.
  void add_sources(std::vector<pollfd> &sources);
  /// When something is to be done though nothing came; none: never.
  [[nodiscard]] std::optional<Time> deadline() const;
  /// After the wait; `sources` are those that add_sources() added.
  void serve(const std::vector<pollfd> &sources);

  /// In the child of a fork: the parent's socket and clients are closed, and nothing is said to them.
  void forget();

  /// "" when there is none now.
  [[nodiscard]] const std::string &path() const { return listening_.path; }
  [[nodiscard]] const Listening &listening() const { return listening_; }

 private:
  struct Client {
    core::GuardedFd socket;
    core::Who who;
    std::string answer;      // of which this is still to be sent:
    std::size_t offset = 0;  // from here on
    bool has_answer = false;
    std::uint16_t type = 0;
    Time since = {};  // it last did something
    [[nodiscard]] bool is_there() const { return socket.is_open(); }
  };
  static constexpr std::chrono::seconds kSlowest{5};   // for taking an answer
  static constexpr std::chrono::seconds kSilent{60};   // between requests
  static constexpr std::chrono::seconds kPatience{1};  // silence after which a newcomer may have the place

  void accept_clients();
  void accept_client(int fd, Time now);
  Client *place_for_newcomer(Time now);
  void refuse(int fd, const core::Error &error);
  void receive(Client &client, Time now);
  void send(Client &client, Time now);
  void answer(Client &client, std::uint16_t type, std::string text);
  static void drop(Client &client);

  bool is_wanted_ = false;
  std::string given_;
  bool is_child_ = false;
  Listening listening_;
  std::array<Client, kClients> clients_;
  std::string buffer_;
};

}  // namespace shunt::control
