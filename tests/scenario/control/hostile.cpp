// The control socket of a running program, asked by clients that do not mean well, or that die, or that are many. After each of
// them the program goes on, and the next one that means well is served.
//
// Shown to fail (the guard named at each test taken out of lib/control, the test seen to fail, the guard put back).
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <random>

#include "served.hpp"

namespace {

using namespace control_test;
using namespace shunt::control;

/// A connection that says what it is told.
class Raw {
 public:
  explicit Raw(const std::string &path) : socket_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path.c_str());
    EXPECT_EQ(connect(socket_.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address), 0);
    const timeval limit = {20, 0};
    setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  /// False when the other end is closed.
  bool say(const std::string &message, std::vector<int> files = {}) {
    iovec bytes = {const_cast<char *>(message.data()), message.size()};
    msghdr header{};
    header.msg_iov = &bytes;
    header.msg_iovlen = 1;
    std::vector<char> control(CMSG_SPACE(files.size() * sizeof(int)));
    if (!files.empty()) {
      header.msg_control = control.data();
      header.msg_controllen = control.size();
      cmsghdr *const rights = CMSG_FIRSTHDR(&header);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(files.size() * sizeof(int));
      std::memcpy(CMSG_DATA(rights), files.data(), files.size() * sizeof(int));
    }
    return sendmsg(socket_.get(), &header, MSG_NOSIGNAL) >= 0;
  }
  /// The code of the answer's error; "" when it is yes, "closed" when there is none.
  std::string hear() {
    std::string text;
    std::vector<char> buffer(kMaximumPiece);
    for (bool more = true; more;) {
      const ssize_t got = recv(socket_.get(), buffer.data(), buffer.size(), 0);
      if (got <= 0) return "closed";
      Header header;
      std::memcpy(&header, buffer.data(), sizeof header);
      EXPECT_EQ(header.length, static_cast<std::uint32_t>(got));
      text.append(buffer.data() + sizeof header, static_cast<std::size_t>(got) - sizeof header);
      more = (header.flags & kMoreFollows) != 0;
    }
    return code_of(json::parse(text));
  }

 private:
  Fd socket_;
};

// protocol.cpp: the header's length not compared with what is there. (The fields' lengths: tests/unit/control_test.cpp.)
TEST(Hostile, MessagesThatAreCutShortAreRefusedWhereverTheyEnd) {
  const Workplace place;
  Served served(place);
  Request request = about(Type::apply, "/somewhere/fix.so", "fix");
  request.symbols = {"answer=other"};
  const std::string whole = encode(request);
  const Fd file(open(patch("answer_11").c_str(), O_RDONLY | O_CLOEXEC));

  Raw client(served.socket());
  for (std::size_t size = 1; size < whole.size(); ++size) {
    ASSERT_TRUE(client.say(whole.substr(0, size), {file.get()}));
    ASSERT_EQ(client.hear(), "bad_request") << size;
  }
  std::string short_length = whole;
  for (std::uint32_t length = 0; length < whole.size(); ++length) {
    std::memcpy(short_length.data() + offsetof(Header, length), &length, sizeof length);
    ASSERT_TRUE(client.say(short_length, {file.get()}));
    ASSERT_EQ(client.hear(), "bad_request") << length;
  }
  EXPECT_EQ(served.ask("answer"), "1");
  EXPECT_EQ(status(served.socket())["counters"]["applied"], 0);
}

// server.cpp, receive(): MSG_TRUNC not looked at; more than one descriptor taken.
TEST(Hostile, MessagesThatAreTooLargeOrBringTooMuchAreRefused) {
  const Workplace place;
  Served served(place);
  const Fd file(open(patch("answer_11").c_str(), O_RDONLY | O_CLOEXEC));
  Raw client(served.socket());

  Request request = about(Type::apply, "fix.so");
  request.not_callers.assign(15, std::string(kMaximumString, 'a'));
  constexpr std::size_t kFieldHeader = 6;
  request.not_callers.emplace_back(kMaximumRequest - encode(request).size() - kFieldHeader, 'b');
  const std::string largest = encode(request);
  ASSERT_EQ(largest.size(), kMaximumRequest);
  ASSERT_TRUE(client.say(largest + "c", {file.get()}));  // what fits is a request by itself
  EXPECT_EQ(client.hear(), "bad_request");
  ASSERT_TRUE(client.say(encode(about(Type::apply, "fix.so")), std::vector<int>(253, file.get())));
  EXPECT_EQ(client.hear(), "bad_request");
  ASSERT_TRUE(client.say(encode({}), {file.get()}));
  EXPECT_EQ(client.hear(), "bad_request") << "a descriptor where none belongs";

  EXPECT_EQ(served.ask("answer"), "1");
  std::size_t descriptors = 0;
  for (const auto &entry : fs::directory_iterator("/proc/" + std::to_string(served.pid()) + "/fd"))
    descriptors += fs::read_symlink(entry) == patch("answer_11") ? 1 : 0;
  EXPECT_EQ(descriptors, 0U);
}

TEST(Hostile, MessagesOfAnyBytesAreAnsweredOrRefused) {
  const Workplace place;
  Served served(place);
  std::mt19937 random(20261122);
  std::string whole = encode(about(Type::revert, ""));
  Raw client(served.socket());
  for (int round = 0; round < 1000; ++round) {
    std::string bytes(1 + random() % 300, '\0');
    for (char &byte : bytes) byte = static_cast<char>(random());
    if (round % 2 == 0) {  // a good header before them
      Header header;
      header.type = static_cast<std::uint16_t>(1 + random() % 6);
      header.length = static_cast<std::uint32_t>(sizeof header + bytes.size());
      bytes.insert(0, reinterpret_cast<const char *>(&header), sizeof header);
    }
    ASSERT_TRUE(client.say(bytes));
    ASSERT_NE(client.hear(), "closed");
  }
  EXPECT_EQ(ask(served.socket(), {})["ok"], true);
  EXPECT_EQ(served.ask("answer"), "1");
}

// server.cpp, send(): a second request read before the answer to the first was taken.
TEST(Hostile, RequestsThatDoNotWaitForTheirAnswersAreAnsweredInTheirOrder) {
  const Workplace place;
  Served served(place);
  Raw client(served.socket());
  Request imports;
  imports.type = Type::imports;
  Request unknown;
  unknown.type = Type::revert;
  unknown.name = "nothing";
  for (int round = 0; round < 5; ++round) {
    ASSERT_TRUE(client.say(encode(imports)));
    ASSERT_TRUE(client.say(encode(unknown)));
  }
  for (int round = 0; round < 5; ++round) {
    ASSERT_EQ(client.hear(), "");
    ASSERT_EQ(client.hear(), "unknown_patch");
  }
}

// server.cpp, serve(): a client that hung up is kept.
TEST(Hostile, AThousandConnectionsLeaveNothing) {
  const Workplace place;
  Served served(place);
  const auto descriptors = [&] {
    return std::distance(fs::directory_iterator("/proc/" + std::to_string(served.pid()) + "/fd"),
                         fs::directory_iterator());
  };
  ASSERT_EQ(ask(served.socket(), {})["ok"], true);
  ASSERT_TRUE(becomes_true([&] { return served.runs(); }));
  const auto before = descriptors();
  for (int round = 0; round < 1000; ++round) {
    const Raw client(served.socket());
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
  EXPECT_EQ(ask(served.socket(), {})["ok"], true);
  EXPECT_TRUE(becomes_true([&] { return descriptors() <= before; })) << descriptors();
}

// server.cpp, place_for_newcomer(): nobody ever makes place.
TEST(Hostile, SilentClientsMakePlaceForOneThatAsks) {
  const Workplace place;
  Served served(place);
  std::vector<std::unique_ptr<Raw>> silent;
  for (int k = 0; k < 16; ++k) silent.push_back(std::make_unique<Raw>(served.socket()));

  bool was_told_busy = false;
  EXPECT_TRUE(becomes_true([&] {
    const auto client = Client::connect(served.socket(), kLimit);
    if (!client) return false;
    const std::string code = code_of(json::parse(client->hello()));
    was_told_busy = was_told_busy || code == "control_busy";
    return code.empty();
  }));
  EXPECT_EQ(ask_about(served.socket(), Type::apply, patch("answer_11"))["ok"], true);
}

// server.cpp, send(): waits for a client.
TEST(Hostile, AClientThatTakesNoAnswerDelaysNobody) {
  const Workplace place;
  Served served(place);
  Raw stalls(served.socket());
  Request imports;
  imports.type = Type::imports;
  for (int k = 0; k < 100; ++k) ASSERT_TRUE(stalls.say(encode(imports)));

  EXPECT_EQ(ask_about(served.socket(), Type::apply, patch("answer_11"))["ok"], true);
  EXPECT_EQ(served.ask("answer"), "11");
}

// e47. A transaction that was asked for is done though nobody is there to hear so; whole, as the threads of `served` see.
TEST(Hostile, AClientThatDiesLeavesATransactionThatIsWholeOrAbsent) {
  const Workplace place;
  Served served(place);
  for (int round = 0; round < 20; ++round) {
    const fs::path file = patch(round % 2 == 0 ? "answer_11" : "answer_12");
    const Fd fd(open(file.c_str(), O_RDONLY | O_CLOEXEC));
    const std::string message = encode(about(Type::apply, file, "fix" + std::to_string(round)));
    Raw(served.socket()).say(message, {fd.get()});

    ASSERT_TRUE(becomes_true([&] { return status(served.socket())["counters"]["applied"] == round + 1; }));
    const json now = status(served.socket(), true);
    ASSERT_EQ(now["verified"]["conflicts"].size(), 0U) << now;
    ASSERT_EQ(served.ask("answer"), round % 2 == 0 ? "11" : "12");
  }
  EXPECT_EQ(revert(served.socket(), "")["reverted"].size(), 20U);
  EXPECT_EQ(served.ask("answer"), "1");
}

TEST(Hostile, TwoClientsThatChangeThingsAtOnceBothSucceed) {
  const Workplace place;
  Served served(place);
  const auto work = [&](const std::string &name) {
    for (int round = 0; round < 20; ++round) {
      EXPECT_EQ(ask_about(served.socket(), Type::apply, patch(name))["ok"], true);
      EXPECT_EQ(revert(served.socket(), name)["ok"], true);
    }
  };
  std::thread other([&] { work("answer_11"); });
  work("answer_12");
  other.join();
  EXPECT_EQ(served.ask("answer"), "1");
  const json now = status(served.socket(), true);
  EXPECT_EQ(now["counters"], json({{"applied", 40}, {"reverted", 40}, {"refused", 0}}));
  EXPECT_EQ(now["verified"]["slots"], 0);
}

}  // namespace
