// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// server: a small game server. It keeps its players' state in memory and their connections open for hours, so it cannot
// be restarted to get a fix; it links shunt instead. It prints its port and serves on two threads:
//
//     LOGIN NAME                    HELLO NAME
//     HIT ROLL                      HIT DAMAGE LEVEL HP XP GOLD
//     ADMIN LOAD FILE               loads a patch: what it would change, as lines, and then "END"
//     ADMIN APPLY | ADMIN REVERT    DONE MICROSECONDS, or FAILED WHY
//     ADMIN STOP                    BYE
#include <sys/epoll.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <thread>

#include <shunt/shunt.hpp>

#include "rules.hpp"
#include "socket.hpp"

namespace {

/// The one patch that an administrator works with.
class Admin {
 public:
  std::string load(const std::string &file) {
    const std::lock_guard lock(mutex_);
    auto patch = shunt::Patch::load(file.c_str());
    if (!patch) return failed(patch.error()) + "END\n";
    auto plan = patch->plan();
    if (!plan) return failed(plan.error()) + "END\n";
    patch_.emplace(std::move(*patch));
    file_ = file;
    std::string coverage = plan->coverage();
    if (!coverage.ends_with('\n')) coverage += '\n';
    return coverage + "END\n";
  }

  std::string apply() {
    const std::lock_guard lock(mutex_);
    // What was reverted is unloaded as soon as no thread is in it.
    if (patch_ && patch_->draining().code == SHUNT_CODE_UNLOADED) {
      auto patch = shunt::Patch::load(file_.c_str());
      if (!patch) return failed(patch.error());
      patch_.emplace(std::move(*patch));
    }
    return timed(&shunt::Patch::apply);
  }
  std::string revert() {
    const std::lock_guard lock(mutex_);
    return timed(&shunt::Patch::revert);
  }

 private:
  std::string timed(shunt::Result<void> (shunt::Patch::*step)()) {
    if (!patch_) return "FAILED no patch is loaded\n";
    const auto start = std::chrono::steady_clock::now();
    const shunt::Result<void> result = ((*patch_).*step)();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
    return result ? "DONE " + std::to_string(took.count()) + '\n' : failed(result.error());
  }

  static std::string failed(const shunt::Error &error) { return std::string("FAILED ") + error.message() + '\n'; }

  std::mutex mutex_;
  std::optional<shunt::Patch> patch_;
  std::string file_;
};

struct Session {
  explicit Session(int fd) : connection(fd) {}
  Connection connection;
  rules::Player player;
};

std::string hit(rules::Player &player, int roll) {
  const int damage = rules::damage(player, roll);
  rules::settle(player, roll, damage);
  char answer[128];
  std::snprintf(answer, sizeof answer, "HIT %d %d %d %ld %ld\n", damage, player.level, player.hp, player.xp,
                player.gold);
  return answer;
}

std::string answer_admin(std::istringstream &words, Admin &admin) {
  std::string command;
  std::string file;
  words >> command >> std::ws;
  std::getline(words, file);
  if (command == "LOAD") return admin.load(file);
  if (command == "APPLY") return admin.apply();
  if (command == "REVERT") return admin.revert();
  return "FAILED there is no such command\n";
}

std::string answer(const std::string &line, Session &session, Admin &admin) {
  std::istringstream words(line);
  std::string command;
  words >> command;
  if (command == "HIT") {
    int roll = 0;
    if (words >> roll && roll >= 1 && roll <= 20) return hit(session.player, roll);
  } else if (command == "LOGIN") {
    std::string name;
    if (words >> name) return "HELLO " + name + '\n';
  } else if (command == "ADMIN") {
    return answer_admin(words, admin);
  }
  return "FAILED not understood\n";
}

/// Answers what has arrived. False when the connection is to be closed.
bool serve(Session &session, Admin &admin) {
  if (!session.connection.receive()) return false;
  while (const auto line = session.connection.line()) {
    if (*line == "ADMIN STOP") {
      session.connection.send("BYE\n");
      std::_Exit(0);
    }
    if (!session.connection.send(answer(*line, session, admin))) return false;
  }
  return true;
}

[[noreturn]] void serve_sessions(int epoll, Admin &admin) {
  while (true) {
    epoll_event events[64];
    const int count = epoll_wait(epoll, events, 64, -1);
    for (int k = 0; k < count; ++k) {
      auto *session = static_cast<Session *>(events[k].data.ptr);
      if (!serve(*session, admin)) delete session;
    }
  }
}

}  // namespace

int main() {
  const int listener = must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  sockaddr_in address = local_address(0);
  socklen_t length = sizeof address;
  must(bind(listener, reinterpret_cast<sockaddr *>(&address), length), "bind");
  must(listen(listener, 128), "listen");
  must(getsockname(listener, reinterpret_cast<sockaddr *>(&address), &length), "getsockname");
  std::printf("%u\n", static_cast<unsigned>(ntohs(address.sin_port)));
  std::fflush(stdout);

  Admin admin;
  int epolls[2];
  for (int &epoll : epolls) {
    epoll = must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    std::thread(serve_sessions, epoll, std::ref(admin)).detach();
  }
  for (std::size_t k = 0;; ++k) {
    auto session = std::make_unique<Session>(must(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC), "accept"));
    const int fd = session->connection.fd();
    epoll_event event{.events = EPOLLIN, .data = {.ptr = session.release()}};
    must(epoll_ctl(epolls[k % 2], EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
  }
}
