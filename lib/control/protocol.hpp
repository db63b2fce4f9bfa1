// protocol.hpp: what is said over the control socket, as bytes and as values. Both ends use it, and the fuzzer.
//
// The socket is of SOCK_SEQPACKET, so that one message is one send and one receive and nothing has to be put together. A
// request is one message: a header, then fields. The answer is one or more messages, each a header and a piece of text; the
// pieces in their order are one JSON document. docs/control.md describes both.
//
// The bytes come from another process: nothing in them is believed before it was checked, and nothing that they say makes
// the decoder take more memory than the message itself has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace shunt::control {

constexpr std::uint32_t kMagic = 0x544e4853;  // "SHNT"
constexpr std::uint16_t kProtocol = 1;
constexpr std::size_t kMaximumRequest = std::size_t{64} << 10;  // bytes of a message
constexpr std::size_t kMaximumFields = 512;
constexpr std::size_t kMaximumString = 4096;
constexpr std::size_t kMaximumPiece = std::size_t{32} << 10;   // bytes of a message of an answer
constexpr std::size_t kMaximumAnswer = std::size_t{16} << 20;  // bytes of the whole text
constexpr std::uint16_t kAnswerBit = 0x8000;                   // of the type of an answer
constexpr std::uint32_t kMoreFollows = 1;                      // of the flags of an answer

/// In the byte order of the machine: both ends are on it.
struct Header {
  std::uint32_t magic = kMagic;
  std::uint16_t version = kProtocol;
  std::uint16_t type = 0;
  std::uint32_t length = 0;  // of the whole message, with this header
  std::uint32_t flags = 0;
};
static_assert(sizeof(Header) == 16);

enum class Type : std::uint16_t { hello = 1, imports = 2, plan = 3, apply = 4, revert = 5, status = 6 };

/// "hello" and so on; "unknown" for other numbers.
const char *type_name(Type type);

/// A field is a tag, the length of what follows, and that many bytes: a string without its NUL, or nothing for a flag.
enum class Tag : std::uint16_t {
  file = 1,               // what the patch file is called, for messages and the log
  name = 2,               // of the patch
  symbol = 3,             // a glob in `imports`; else NAME or NAME=REPLACEMENT. Any number of them
  caller = 4,             // a glob. Any number of them
  not_caller = 5,         // a glob. Any number of them
  provider = 6,           // a glob
  all = 7,                // flag of `revert`: every patch
  verify = 8,             // flag of `status`: say which slots hold something else
  force_permissions = 9,  // flag of `apply`: take a file that the rules forbid
  reach = 10,             // "auto", "slots" or "entry"
  also = 11,              // a further name of the same code that is meant. Any number of them
  keep = 12,              // flag: the code of the patch stays mapped after a revert
  dlsym = 13,             // flag: dlsym() answers with the replacements
};

struct Request {
  Type type = Type::hello;
  std::string file, name, provider, reach;
  std::vector<std::string> symbols, callers, not_callers, also;
  bool all = false, verify = false, force_permissions = false, keep = false, dlsym = false;

  bool operator==(const Request &) const = default;
};

/// Does a request of this type come with a file descriptor, and only one?
bool needs_file(Type type);

/// The message that says this. Empty when it would be longer than a message may be.
std::string encode(const Request &request);

/// Why bytes are no request, as a sentence; none: `request` is what they say.
std::optional<std::string> decode(const char *bytes, std::size_t size, Request &request);

/// The piece of an answer that begins at `offset` of the text, as a message; `offset` becomes where the next one begins.
std::string encode_piece(std::uint16_t type, const std::string &text, std::size_t &offset);

/// Adds the piece that a message holds to `text`. Why the bytes are no piece of an answer to `type`; none: it was added, and
/// `more` says whether another message follows.
std::optional<std::string> decode_piece(const char *bytes, std::size_t size, Type type, std::string &text, bool &more);

}  // namespace shunt::control
