// served.hpp: the program `served` with its control socket, and clients of it that speak properly.
#pragma once

#include <fcntl.h>

#include <nlohmann/json.hpp>
#include <string>

#include "../preload/program.hpp"
#include "control/client.hpp"

namespace control_test {

using namespace preload;
using nlohmann::json;
using shunt::control::Client;
using shunt::control::Request;
using shunt::control::Type;
using shunt::core::Fd;

constexpr std::chrono::milliseconds kLimit{20'000};

class Served : public Program {
 public:
  explicit Served(const Workplace &place, std::vector<std::string> environment = {})
      : Program(place, std::move(environment), "served") {
    socket_ = ask("socket");
  }
  [[nodiscard]] const std::string &socket() const { return socket_; }
  [[nodiscard]] bool runs() const { return kill(pid(), 0) == 0; }

 private:
  std::string socket_;
};

inline json parsed(const shunt::core::Result<std::string> &answer) {
  if (!answer) {
    ADD_FAILURE() << answer.error().message;
    return json::object();
  }
  return json::parse(*answer);
}

/// One question on a connection of its own.
inline json ask(const std::string &socket, const Request &request, int file = -1) {
  auto client = Client::connect(socket, kLimit);
  if (!client) {
    ADD_FAILURE() << client.error().message;
    return json::object();
  }
  return parsed(client->ask(request, file));
}

inline Request about(Type type, const fs::path &file, const std::string &name = "") {
  Request request;
  request.type = type;
  request.file = file.string();
  request.name = name;
  return request;
}

/// A plan or an apply of a file.
inline json ask_about(const std::string &socket, Type type, const fs::path &file, const std::string &name = "") {
  const Fd fd(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  return ask(socket, about(type, file, name), fd.get());
}

inline json revert(const std::string &socket, const std::string &name) {
  Request request;
  request.type = Type::revert;
  request.name = name;
  request.all = name.empty();
  return ask(socket, request);
}

inline json status(const std::string &socket, bool verify = false) {
  Request request;
  request.type = Type::status;
  request.verify = verify;
  return ask(socket, request);
}

inline std::string code_of(const json &answer) { return answer.value("ok", true) ? "" : answer["error"]["code"]; }

}  // namespace control_test
