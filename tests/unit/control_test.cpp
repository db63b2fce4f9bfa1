// The protocol, the JSON writer and the rules for folders of the control socket, without a socket.
//
// Shown to fail (the guard named at each test taken out of lib/control, the test seen to fail, the guard put back).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "base/fd.hpp"
#include "control/json.hpp"
#include "control/protocol.hpp"
#include "control/socket_file.hpp"
#include "patch/file_rules.hpp"

namespace {

namespace fs = std::filesystem;
using namespace shunt::control;
using shunt::core::Code;

// ---- protocol

std::optional<std::string> decode(const std::string &bytes, Request &request) {
  // A copy of exactly its size: a sanitizer sees what is read behind it.
  const std::vector<char> exact(bytes.begin(), bytes.end());
  return shunt::control::decode(exact.data(), exact.size(), request);
}

Request full_request() {
  Request request;
  request.type = Type::apply;
  request.file = "/tmp/fix.so";
  request.name = "fix";
  request.provider = "libc.so*";
  request.symbols = {"malloc", "free=my_free"};
  request.callers = {"a*", "b*", "c*"};
  request.not_callers = {"d?"};
  request.reach = "entry";
  request.also = {"__malloc", "cfree"};
  request.force_permissions = true;
  request.keep = true;
  request.dlsym = true;
  return request;
}

std::vector<Request> every_request() {
  std::vector<Request> all = {full_request()};
  all.push_back({});
  for (const auto change : {+[](Request &one) {
                              one.type = Type::status;
                              one.verify = true;
                            },
                            +[](Request &one) {
                              one.type = Type::revert;
                              one.all = true;
                            },
                            +[](Request &one) {
                              one.type = Type::revert;
                              one.name = "fix";
                              one.keep = true;
                            },
                            +[](Request &one) {
                              one.type = Type::imports;
                              one.symbols = {"*"};
                            },
                            +[](Request &one) {
                              one.type = Type::plan;
                              one.file = "x";
                            }}) {
    all.emplace_back();
    change(all.back());
  }
  return all;
}

std::string field(std::uint16_t tag, const std::string &bytes) {
  const auto length = static_cast<std::uint32_t>(bytes.size());
  return std::string(reinterpret_cast<const char *>(&tag), sizeof tag) +
         std::string(reinterpret_cast<const char *>(&length), sizeof length) + bytes;
}

std::string message(Type type, const std::string &fields) {
  Header header;
  header.type = static_cast<std::uint16_t>(type);
  header.length = static_cast<std::uint32_t>(sizeof header + fields.size());
  return std::string(reinterpret_cast<const char *>(&header), sizeof header) + fields;
}

TEST(Protocol, RequestsComeBackAsTheyWere) {
  for (const Request &request : every_request()) {
    Request back;
    const auto wrong = decode(encode(request), back);
    EXPECT_FALSE(wrong) << *wrong;
    EXPECT_EQ(back, request) << type_name(request.type);
  }
}

// decode(): the length of the message, or of a field, not compared with what is there.
TEST(Protocol, ARequestThatIsCutShortIsRefusedWhereverItEnds) {
  for (const Request &request : every_request()) {
    const std::string whole = encode(request);
    for (std::size_t size = 0; size < whole.size(); ++size) {
      Request back;
      EXPECT_TRUE(decode(whole.substr(0, size), back)) << size;
      if (size < sizeof(Header)) continue;
      std::string honest = whole.substr(0, size);  // a header that says how long it is
      const auto length = static_cast<std::uint32_t>(size);
      std::memcpy(honest.data() + offsetof(Header, length), &length, sizeof length);
      (void)decode(honest, back);  // where it ends between two fields it may be whole
    }
  }
}

TEST(Protocol, RequestsThatMakeNoSenseAreRefused) {
  Request back;
  const auto refuses = [&](const std::string &bytes, const char *why) {
    const auto wrong = decode(bytes, back);
    EXPECT_TRUE(wrong && wrong->find(why) != std::string::npos) << why << ": " << wrong.value_or("taken");
  };
  refuses(message(Type::hello, field(2, "x")), "does not belong to hello");
  refuses(message(Type::hello, field(99, "")), "unknown");
  refuses(message(Type::revert, field(2, "a") + field(2, "b")), "twice");
  refuses(message(Type::revert, field(2, "a") + field(7, "")), "of one patch by its name, or of all");
  refuses(message(Type::revert, ""), "of one patch by its name, or of all");
  refuses(message(Type::revert, field(7, "x")), "is a flag");
  refuses(message(Type::revert, field(2, "")), "is empty");
  refuses(message(Type::revert, field(2, std::string("a\0b", 3))), "NUL");
  refuses(message(Type::revert, field(2, std::string(kMaximumString + 1, 'a'))), "longer than");
  refuses(message(Type::apply, ""), "no name");
  refuses(message(Type::apply, field(1, "a") + field(10, "both")), "not by 'both'");
  refuses(message(static_cast<Type>(7), ""), "unknown");
  refuses(message(static_cast<Type>(0), ""), "unknown");
  std::string many;
  for (std::size_t k = 0; k <= kMaximumFields; ++k) many += field(3, "a");
  refuses(message(Type::imports, many), "fields");
  refuses(std::string(kMaximumRequest + 1, 'x'), "longer than");
  std::string other = message(Type::hello, "");
  other[4] = 2;
  refuses(other, "version 2");
  other = message(Type::hello, "");
  other[12] = 1;
  refuses(other, "flags");
  other[0] = 'X';
  refuses(other, "does not begin");
}

TEST(Protocol, AnyBytesAreDecodedOrRefused) {
  std::mt19937 random(1);
  for (int round = 0; round < 20'000; ++round) {
    std::string fields;
    for (unsigned k = random() % 4; k > 0; --k)
      fields += field(static_cast<std::uint16_t>(random() % 12), std::string(random() % 8, 'a'));
    std::string bytes = message(static_cast<Type>(random() % 8), fields);
    for (unsigned k = random() % 3; k > 0; --k) bytes[random() % bytes.size()] = static_cast<char>(random());
    Request back;
    if (decode(bytes, back)) continue;
    Request again;
    EXPECT_FALSE(decode(encode(back), again));
    EXPECT_EQ(back, again);
  }
}

TEST(Protocol, ARequestThatIsTooLongIsNotMade) {
  Request request;
  request.type = Type::imports;
  request.symbols.assign(kMaximumFields + 1, "a");
  EXPECT_EQ(encode(request), "");
  request.symbols.assign(20, std::string(kMaximumString, 'a'));
  EXPECT_EQ(encode(request), "");
}

TEST(Protocol, AnAnswerComesBackFromItsPieces) {
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, kMaximumPiece - sizeof(Header), kMaximumPiece, 5 * kMaximumPiece}) {
    std::string text(size, 'x');
    for (std::size_t k = 0; k < size; ++k) text[k] = static_cast<char>('a' + k % 26);
    std::string back;
    bool more = true;
    std::size_t offset = 0;
    while (more) {
      const std::string piece = encode_piece(static_cast<std::uint16_t>(Type::status), text, offset);
      ASSERT_LE(piece.size(), kMaximumPiece);
      std::string cut = piece.substr(0, piece.size() - 1), nothing;
      EXPECT_TRUE(decode_piece(cut.data(), cut.size(), Type::status, nothing, more));
      EXPECT_TRUE(decode_piece(piece.data(), piece.size(), Type::plan, nothing, more)) << "of another request";
      const auto wrong = decode_piece(piece.data(), piece.size(), Type::status, back, more);
      ASSERT_FALSE(wrong) << *wrong;
    }
    EXPECT_EQ(back, text);
  }
}

// ---- JSON

// json.cpp: no comma; nothing escaped; character_size() answers 1.
TEST(JsonWriter, WritesWhatItIsTold) {
  Json json;
  json.begin_object().key("a").number(-1).key("b").begin_array().string("x").boolean(false).null().end_array();
  json.key("c").begin_object().end_object().key("d").address(0x7f00).end_object();
  EXPECT_EQ(json.text(), R"({"a":-1,"b":["x",false,null],"c":{},"d":"0x7f00"})");
}

TEST(JsonWriter, EscapesWhatItMust) {
  const auto written = [](std::string_view text) {
    Json json;
    return json.string(text).take();
  };
  EXPECT_EQ(written("q\"b\\n\nt\t\x01\x7f"), R"("q\"b\\n\nt\u0009\u0001\u007f")");
  EXPECT_EQ(written(std::string_view("a\0b", 3)), R"("a\u0000b")");
  EXPECT_EQ(written("\u00e4\u20ac\U0001f600"), "\"\u00e4\u20ac\U0001f600\"");
  const std::string bad = "\xef\xbf\xbd";
  EXPECT_EQ(written("\xff"), "\"" + bad + "\"");
  EXPECT_EQ(written("\xc0\xaf"), "\"" + bad + bad + "\"") << "longer than need be";
  EXPECT_EQ(written("\xed\xa0\x80"), "\"" + bad + bad + bad + "\"") << "a surrogate";
  EXPECT_EQ(written("\xe2\x82"), "\"" + bad + bad + "\"") << "cut short";
  EXPECT_EQ(written("\xf4\x90\x80\x80"), "\"" + bad + bad + bad + bad + "\"") << "too large";
}

// ---- rules

class Place {
 public:
  Place() {
    std::string path = fs::temp_directory_path() / "shunt-control-XXXXXX";
    EXPECT_NE(mkdtemp(path.data()), nullptr);
    path_ = path;
  }
  ~Place() { fs::remove_all(path_); }
  [[nodiscard]] std::string operator/(const std::string &name) const { return path_ / name; }

 private:
  fs::path path_;
};

// socket_file.cpp, make_folder(): each condition taken out.
TEST(SocketFolder, IsMadeAndMustBeSafe) {
  const Place place;
  EXPECT_FALSE(make_folder(place / "new", true));
  struct stat status {};
  ASSERT_EQ(stat((place / "new").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0700U);
  EXPECT_FALSE(make_folder(place / "new", true)) << "there already";

  const auto refuses = [&](const char *name, bool is_private) {
    const auto unsafe = make_folder(place / name, is_private);
    EXPECT_TRUE(unsafe) << name;
    return unsafe ? unsafe->code : Code::ok;
  };
  fs::create_directory(place / "others");
  fs::permissions(place / "others", static_cast<fs::perms>(0755));
  EXPECT_EQ(refuses("others", true), Code::not_permitted);
  EXPECT_FALSE(make_folder(place / "others", false));
  for (const unsigned mode : {0775U, 0757U, 01777U}) {
    fs::permissions(place / "others", static_cast<fs::perms>(mode));
    EXPECT_EQ(refuses("others", false), Code::not_permitted) << mode;
  }
  fs::create_directory_symlink(place / "new", place / "link");
  EXPECT_EQ(refuses("link", true), Code::system);
  std::ofstream(place / "file") << "x";
  EXPECT_EQ(refuses("file", true), Code::system);
  EXPECT_EQ(refuses("none/below", true), Code::system);
  if (geteuid() != 0) return;
  ASSERT_EQ(chown((place / "new").c_str(), 65534, 65534), 0);
  EXPECT_EQ(refuses("new", true), Code::not_permitted);
  EXPECT_EQ(refuses("new", false), Code::not_permitted);
}

// socket_file.cpp, make_folder(): the owner of a private folder not compared with the process's user.
TEST(SocketFolder, OfRootIsNotPrivateForAnotherUser) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  const Place place;
  fs::permissions(place / "", static_cast<fs::perms>(0711));
  fs::create_directory(place / "roots");
  fs::permissions(place / "roots", static_cast<fs::perms>(0700));

  const pid_t child = fork();
  if (child == 0) {
    if (setgid(65534) != 0 || setuid(65534) != 0) _exit(2);
    const auto unsafe = make_folder(place / "roots", true);
    _exit(unsafe && unsafe->code == Code::not_permitted ? 0 : 3);
  }
  int end = 0;
  ASSERT_EQ(waitpid(child, &end, 0), child);

  EXPECT_TRUE(WIFEXITED(end) && WEXITSTATUS(end) == 0) << end;
  EXPECT_FALSE(make_folder(place / "roots", true)) << "root's own";
}

// socket_file.cpp: a dead socket not removed; a live one removed.
TEST(SocketFile, TakesThePlaceOfADeadOneAndOfNoOther) {
  const Place place;
  const std::string path = place / "socket";
  auto first = start_listening(path, false);
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(first->path, path);
  auto second = start_listening(path, false);
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ(second->path, path + "." + std::to_string(getpid()));
  first->socket.close();
  auto third = start_listening(path, false);
  ASSERT_TRUE(third) << third.error().message;
  EXPECT_EQ(third->path, path);
  auto child = start_listening(path, true);
  ASSERT_TRUE(child);
  EXPECT_EQ(child->path, path + "." + std::to_string(getpid()) + ".1") << "its own name is taken as well here";

  remove_socket(path, first->device, first->inode + 1);
  EXPECT_TRUE(fs::exists(path)) << "another file";
  remove_socket(path, third->device, third->inode);
  EXPECT_FALSE(fs::exists(path));
  std::ofstream(path) << "a file, not a socket";
  auto beside = start_listening(path, false);
  ASSERT_TRUE(beside);
  EXPECT_NE(beside->path, path);
  for (auto *one : {&second, &third, &child, &beside}) (*one)->socket.close();
}

TEST(SocketFile, RefusesAPathThatIsTooLongOrNone) {
  const Place place;
  const auto refused = start_listening(place / std::string(120, 'x'), false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().sys_errno, ENAMETOOLONG);
  for (const char *bad : {"", "/", "/tmp/", ".", "/tmp/.."}) EXPECT_FALSE(absolute_path(bad)) << bad;
  EXPECT_EQ(*absolute_path("x"), (fs::current_path() / "x").string());
}

// file_rules.cpp: each condition taken out.
TEST(PatchFileRules, TakeFilesOfRootAndOfTheUserThatNobodyElseMayWrite) {
  const Place place;
  std::ofstream(place / "fix.so") << "x";
  const auto check = [&](int flags = O_RDONLY) {
    const shunt::core::Fd fd(open((place / "fix.so").c_str(), flags | O_CLOEXEC));
    const auto refused = shunt::core::check_patch_file(fd.get(), "fix.so");
    return refused ? refused->code : Code::ok;
  };
  fs::permissions(place / "fix.so", static_cast<fs::perms>(0755));
  EXPECT_EQ(check(), Code::ok);
  for (const unsigned mode : {0602U, 0620U, 0775U}) {
    fs::permissions(place / "fix.so", static_cast<fs::perms>(mode));
    EXPECT_EQ(check(), Code::not_permitted) << mode;
  }
  fs::permissions(place / "fix.so", static_cast<fs::perms>(0600));
  const shunt::core::Fd folder(open((place / "").c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(shunt::core::check_patch_file(folder.get(), "folder")->code, Code::patch_unreadable);
  EXPECT_EQ(shunt::core::check_patch_file(-1, "closed")->code, Code::patch_unreadable);
  if (geteuid() != 0) return;
  ASSERT_EQ(chown((place / "fix.so").c_str(), 65534, 65534), 0);
  EXPECT_EQ(check(), Code::not_permitted);
}

}  // namespace
