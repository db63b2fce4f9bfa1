// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// players PORT FIX.so: 64 players who never stop, each on its own connection, while an administrator applies the fix,
// reverts it and applies it again. Every answer is checked: the damage must be that of the rules in force, and what the
// server keeps of the player must follow from it. Prints what happened; exits 1 when anything failed.
#include <sys/epoll.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "rules.hpp"
#include "socket.hpp"

namespace {

constexpr std::size_t kPlayers = 64;
constexpr std::uint64_t kRequests = 50'000;  // for each step, before it and after it

/// The rules that an answer must follow. `changing`: asked while the administrator changes them, so either will do.
enum class Rules { shipped, fixed, changing };

/// What was seen during one stretch of play.
struct Tally {
  std::uint64_t requests = 0;
  std::uint64_t healing = 0;  // critical hits that healed the dragon
  std::optional<int> ada;     // what Ada's last critical dealt
};

int connect_to(std::uint16_t port) {
  const int fd = must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  const sockaddr_in address = local_address(port);
  must(connect(fd, reinterpret_cast<const sockaddr *>(&address), sizeof address), "connect");
  return fd;
}

/// One player: what it asked last, and what it knows of itself.
struct Client {
  Client(std::uint16_t port, std::size_t k) : connection(connect_to(port)), roll(static_cast<int>(k % 20)) {}

  bool log_in(const std::string &name) {
    if (!connection.send("LOGIN " + name + '\n')) return false;
    std::optional<std::string> line;
    while (!(line = connection.line())) {
      if (!connection.receive()) return false;
    }
    return *line == "HELLO " + name;
  }

  bool ask(Rules rules) {
    roll = roll % 20 + 1;
    expected = rules;
    return connection.send("HIT " + std::to_string(roll) + '\n');
  }

  /// The damage that the answer tells, if it is right in all it says.
  std::optional<int> check(const std::string &answer) {
    int damage = 0;
    rules::Player told;
    if (std::sscanf(answer.c_str(), "HIT %d %d %d %ld %ld", &damage, &told.level, &told.hp, &told.xp, &told.gold) !=
        5) {
      return std::nullopt;
    }
    const int shipped = rules::damage(player, roll);
    const int fixed = roll == 20 ? -shipped : shipped;
    const bool is_damage_right =
        (damage == shipped && expected != Rules::fixed) || (damage == fixed && expected != Rules::shipped);
    rules::settle(player, roll, damage);
    if (!is_damage_right || told != player) return std::nullopt;
    return damage;
  }

  Connection connection;
  rules::Player player;
  int roll;
  Rules expected = Rules::shipped;
};

/// 12345 as "12,345".
std::string grouped(std::uint64_t number) {
  std::string text = std::to_string(number);
  for (std::size_t end = text.size(); end > 3; end -= 3) text.insert(end - 3, ",");
  return text;
}

/// All players and the administrator, on one thread.
class Game {
 public:
  explicit Game(std::uint16_t port)
      : epoll_(must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1")), admin_(connect_to(port)) {
    watch(admin_.fd(), nullptr);
    for (std::size_t k = 0; k < kPlayers; ++k) {
      auto &client = clients_.emplace_back(std::make_unique<Client>(port, k));
      if (!client->log_in(k == 0 ? "Ada" : "player-" + std::to_string(k))) fail("login");
      watch(client->connection.fd(), client.get());
      if (!client->ask(rules_)) lose(*client);
    }
  }

  /// Lets everybody play for a while.
  Tally play() {
    tally_ = {};
    play_until([this] { return tally_.requests >= kRequests && (tally_.ada || failed_ > 0); });
    if (failed_ > 0) fail(grouped(failed_) + " of " + grouped(requests_) + " requests");
    return tally_;
  }

  /// Sends an administrator's command while everybody plays on, until `last` ends the answer.
  std::vector<std::string> administrate(const std::string &command,
                                        const std::function<bool(const std::string &)> &is_last) {
    std::vector<std::string> lines;
    if (!admin_.send("ADMIN " + command + '\n')) fail("the administrator's connection");
    play_until([&] {
      while (const auto line = admin_.line()) {
        lines.push_back(*line);
        if (is_last(*line)) return true;
      }
      return false;
    });
    return lines;
  }

  struct Change {
    double microseconds = 0;
    Tally during;
  };

  /// Has the administrator change the rules.
  Change change(const std::string &command, Rules to) {
    tally_ = {};
    rules_ = Rules::changing;
    for (const auto &client : clients_)
      client->expected = Rules::changing;  // they have asked, and may be answered later
    const std::string answer = administrate(command, [](const std::string &) { return true; }).front();
    rules_ = to;
    Change change{.during = tally_};
    if (std::sscanf(answer.c_str(), "DONE %lf", &change.microseconds) != 1) fail(command + " was answered: " + answer);
    return change;
  }

  /// Has the administrator stop the server. Nobody looks at the players any more: their connections end with the server.
  void stop() {
    if (!admin_.send("ADMIN STOP\n")) fail("the administrator's connection");
    while (!admin_.line()) {
      if (!admin_.receive()) fail("the server ended without a word");
    }
  }

  [[nodiscard]] const Client &ada() const { return *clients_.front(); }
  [[nodiscard]] std::uint64_t requests() const { return requests_; }
  [[nodiscard]] std::uint64_t failed() const { return failed_; }
  [[nodiscard]] std::uint64_t lost() const { return lost_; }

 private:
  [[noreturn]] static void fail(const std::string &what) {
    std::fprintf(stderr, "players: failed: %s\n", what.c_str());
    std::exit(1);
  }

  void watch(int fd, Client *client) {
    epoll_event event{.events = EPOLLIN, .data = {.ptr = client}};
    must(epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
  }

  void lose(Client &client) {
    epoll_ctl(epoll_, EPOLL_CTL_DEL, client.connection.fd(), nullptr);
    if (++lost_ == kPlayers) fail("every connection is lost");
  }

  void play_until(const std::function<bool()> &is_over) {
    while (!is_over()) {
      epoll_event events[kPlayers];
      const int count = epoll_wait(epoll_, events, kPlayers, 10'000);
      if (count == 0) fail("no answer within 10 seconds");
      for (int k = 0; k < count; ++k) {
        if (auto *client = static_cast<Client *>(events[k].data.ptr)) {
          if (!play_one(*client)) lose(*client);
        } else if (!admin_.receive()) {
          fail("the administrator's connection is lost");
        }
      }
    }
  }

  /// Takes the answer of one player, counts it, and asks the next. False when the connection is gone.
  bool play_one(Client &client) {
    if (!client.connection.receive()) return false;
    const auto line = client.connection.line();
    if (!line) return true;
    count(client, *line);
    return client.ask(rules_);
  }

  void count(Client &client, const std::string &answer) {
    ++requests_;
    ++tally_.requests;
    const auto damage = client.check(answer);
    if (!damage) {
      if (++failed_ == 1) std::fprintf(stderr, "players: a roll of %d was answered: %s\n", client.roll, answer.c_str());
    } else if (client.roll == 20 && client.expected != Rules::changing) {
      tally_.healing += *damage < 0;
      if (&client == clients_.front().get()) tally_.ada = *damage;
    }
  }

  int epoll_;
  Connection admin_;
  std::vector<std::unique_ptr<Client>> clients_;
  Rules rules_ = Rules::shipped;
  Tally tally_;
  std::uint64_t requests_ = 0;
  std::uint64_t failed_ = 0;
  std::uint64_t lost_ = 0;
};

void print_plan(Game &game, const std::filesystem::path &fix) {
  const auto lines = game.administrate("LOAD " + fix.string(), [](const std::string &line) { return line == "END"; });
  const std::string folder = fix.parent_path().string() + '/';
  for (std::string line : lines) {
    if (line == "END") break;
    for (std::size_t at; (at = line.find(folder)) != std::string::npos;) line.erase(at, folder.size());
    std::printf("    %s\n", line.c_str());
  }
}

constexpr char kHeading[] = "  step         took   requests before   during    after   dragons healed   Ada's critical";

void print_step(const char *name, const Tally &before, const Game::Change &change, const Tally &after) {
  const std::string healed = grouped(before.healing) + " -> " + grouped(after.healing);
  const std::string ada = std::to_string(*before.ada) + " -> " + std::to_string(*after.ada);
  std::printf("  %-7s %6.0f us   %15s   %6s   %6s   %14s   %14s\n", name, change.microseconds,
              grouped(before.requests).c_str(), grouped(change.during.requests).c_str(),
              grouped(after.requests).c_str(), healed.c_str(), ada.c_str());
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: players PORT FIX.so\n");
    return 2;
  }
  const std::filesystem::path fix = std::filesystem::canonical(argv[2]);
  Game game(static_cast<std::uint16_t>(std::atoi(argv[1])));

  std::printf("%zu players fight dragons, each on a connection of its own, as fast as the server answers.\n\n",
              kPlayers);
  Tally before = game.play();
  std::printf("  The bug: a critical hit heals the dragon. Ada, level %d, rolls a 20 and deals %d damage.\n",
              game.ada().player.level, *before.ada);
  std::printf("  The fix: %s, a plain shared library. What applying it would change:\n\n", fix.filename().c_str());
  print_plan(game, fix);

  std::printf("\n%s\n", kHeading);
  for (const auto &[name, command, rules] :
       {std::tuple{"apply", "APPLY", Rules::fixed}, std::tuple{"revert", "REVERT", Rules::shipped},
        std::tuple{"apply", "APPLY", Rules::fixed}}) {
    const Game::Change change = game.change(command, rules);
    const Tally after = game.play();
    print_step(name, before, change, after);
    before = after;
  }

  std::printf("\n%s requests, %s failed; %zu connections, %s lost; the same server process from first to last.\n",
              grouped(game.requests()).c_str(), grouped(game.failed()).c_str(), kPlayers, grouped(game.lost()).c_str());
  const bool is_good = game.failed() == 0 && game.lost() == 0;
  game.stop();
  return is_good ? 0 : 1;
}
