// connection.hpp: a conversation with one process over its control socket. What goes wrong is told as what a person can act on.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "base/fd.hpp"
#include "cli/console.hpp"
#include "cli/processes.hpp"
#include "control/client.hpp"

namespace shunt::cli {

/// For connecting and for each answer.
constexpr std::chrono::milliseconds kPatience{30000};
/// For one that will hardly answer, while others wait.
constexpr std::chrono::milliseconds kGlance{2000};

/// A process that was reached and whose answer was no, or that did not answer.
struct Refusal : Failure {
  Json answer;  // the server's document, null where there is none
};

class Connection {
 public:
  /// Throws Failure (unreachable): no such process any more, another user's, no shunt in it, stopped, nobody answers.
  static Connection open(const Process &process, std::chrono::milliseconds limit = kPatience);

  /// The answer, which has "ok":true. Throws Refusal, or Failure where the answer makes no sense. `file`: the descriptor of the patch, or -1.
  Json ask(const control::Request &request, int file = -1);

  [[nodiscard]] const Process &process() const { return process_; }
  [[nodiscard]] const Json &hello() const { return hello_; }
  [[nodiscard]] const std::string &socket() const { return socket_; }  // as the process sees it
  /// The folder of the socket, opened through the process's own mount namespace.
  [[nodiscard]] core::Fd open_folder() const;

 private:
  Connection(Process process, control::Client client, Json hello, std::string socket, std::chrono::milliseconds limit);

  Process process_;
  std::unique_ptr<control::Client> client_;
  Json hello_;
  std::string socket_;
  std::chrono::milliseconds limit_;
};

/// "process 4711 (nginx)", as messages call it.
std::string called(const Process &process);

}  // namespace shunt::cli
