// client.hpp: the other end of the control socket, for the command line and for tests. It is never compiled into what runs
// in a server's process. Answers are handed on as text: whoever asks parses the JSON (nlohmann-json in the CLI).
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "control/protocol.hpp"

namespace shunt::control {

class Client {
 public:
  /// Connects to the socket at `path` (of at most 107 bytes: /proc/self/fd/N/name makes a long one short) and says hello.
  /// `limit` is for this and for each answer. Errors: system, with the errno of connect() (ENOENT, ECONNREFUSED, EACCES,
  /// ETIMEDOUT); not_permitted and control_busy as the server says them; bad_request for an answer that is none.
  static core::Result<Client> connect(const std::string &path, std::chrono::milliseconds limit);

  /// What the server answered to hello: JSON.
  [[nodiscard]] const std::string &hello() const { return hello_; }

  /// The answer, JSON, of the server. `file`: the descriptor of the patch for `plan` and `apply`, which stays the
  /// caller's; else -1. That the server says no is no error here: it is an answer with "ok":false. Errors: invalid_argument
  /// for a request that is too long; system when the server has gone (EPIPE) or does not answer in time (ETIMEDOUT: then
  /// what was asked may still be done); bad_request for an answer that is none. After an error the client is of no more use.
  core::Result<std::string> ask(const Request &request, int file = -1);

 private:
  Client(core::Fd socket, std::chrono::milliseconds limit) : socket_(std::move(socket)), limit_(limit) {}

  core::Fd socket_;
  std::chrono::milliseconds limit_;
  std::string hello_;
};

}  // namespace shunt::control
