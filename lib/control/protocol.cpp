#include "control/protocol.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace shunt::control {
namespace {

struct FieldRule {
  Tag tag;
  const char *name;
  unsigned types;  // bits: the requests that may have it
  std::string Request::*string = nullptr;
  std::vector<std::string> Request::*list = nullptr;
  bool Request::*flag = nullptr;
};

constexpr unsigned bit(Type type) { return 1U << static_cast<unsigned>(type); }
constexpr unsigned kPatch = bit(Type::plan) | bit(Type::apply);

constexpr FieldRule kRules[] = {
    {Tag::file, "file", kPatch, &Request::file},
    {Tag::name, "name", kPatch | bit(Type::revert), &Request::name},
    {Tag::symbol, "symbol", kPatch | bit(Type::imports), nullptr, &Request::symbols},
    {Tag::caller, "caller", kPatch | bit(Type::imports), nullptr, &Request::callers},
    {Tag::not_caller, "not-caller", kPatch, nullptr, &Request::not_callers},
    {Tag::provider, "provider", kPatch, &Request::provider},
    {Tag::all, "all", bit(Type::revert), nullptr, nullptr, &Request::all},
    {Tag::verify, "verify", bit(Type::status), nullptr, nullptr, &Request::verify},
    {Tag::force_permissions, "force-permissions", kPatch, nullptr, nullptr, &Request::force_permissions},
    {Tag::reach, "reach", kPatch, &Request::reach},
    {Tag::also, "also", kPatch, nullptr, &Request::also},
    {Tag::keep, "keep", kPatch | bit(Type::revert), nullptr, nullptr, &Request::keep},
    {Tag::dlsym, "dlsym", kPatch, nullptr, nullptr, &Request::dlsym},
};

constexpr std::size_t kFieldHeader = sizeof(std::uint16_t) + sizeof(std::uint32_t);

void put_field(std::string &message, Tag tag, const std::string &bytes) {
  const auto number = static_cast<std::uint16_t>(tag);
  const auto length = static_cast<std::uint32_t>(bytes.size());
  message.append(reinterpret_cast<const char *>(&number), sizeof number);
  message.append(reinterpret_cast<const char *>(&length), sizeof length);
  message += bytes;
}

std::string text(const char *before, std::uint64_t number, const char *after) {
  return before + std::to_string(number) + after;
}

/// Why a header is not one of ours. What is told about a version comes first: a later one may differ in everything else.
std::optional<std::string> check_header(const char *bytes, std::size_t size, Header &header) {
  if (size < sizeof header) return text("the message has ", size, " bytes, fewer than a header");
  std::memcpy(&header, bytes, sizeof header);
  if (header.magic != kMagic) return "the message does not begin as one of shunt does";
  if (header.version != kProtocol)
    return text("the message is of version ", header.version, " of the protocol; ") +
           text("here it is ", kProtocol, "");
  if (header.length != size) return text("the message says that it has ", header.length, " bytes, and has others");
  return std::nullopt;
}

std::optional<std::string> take_field(Request &request, std::uint16_t number, const char *bytes, std::uint32_t length) {
  const FieldRule *const rule = std::find_if(std::begin(kRules), std::end(kRules), [&](const FieldRule &one) {
    return static_cast<std::uint16_t>(one.tag) == number;
  });
  if (rule == std::end(kRules)) return text("the field ", number, " is unknown here: the client may be newer");
  const std::string name = std::string("the field '") + rule->name + "'";
  if ((rule->types & bit(request.type)) == 0) return name + " does not belong to " + type_name(request.type);
  if (rule->flag != nullptr) {
    if (length != 0) return name + " is a flag and has bytes";
    if (std::exchange(request.*rule->flag, true)) return name + " is there twice";
    return std::nullopt;
  }
  if (length == 0) return name + " is empty";
  if (length > kMaximumString) return name + text(" is longer than ", kMaximumString, " bytes");
  if (std::memchr(bytes, '\0', length) != nullptr) return name + " has a NUL in it";
  if (rule->list != nullptr) {
    (request.*rule->list).emplace_back(bytes, length);
  } else if ((request.*rule->string).empty()) {
    (request.*rule->string).assign(bytes, length);
  } else {
    return name + " is there twice";
  }
  return std::nullopt;
}

/// What a request must have, given its type.
std::optional<std::string> check_whole(const Request &request) {
  if (needs_file(request.type) && request.file.empty()) return "the patch file has no name";
  if (request.type == Type::revert && request.all == !request.name.empty())
    return "a revert is of one patch by its name, or of all";
  if (!request.reach.empty() && request.reach != "auto" && request.reach != "slots" && request.reach != "entry")
    return "calls are reached by auto, slots or entry, not by '" + request.reach + "'";
  return std::nullopt;
}

}  // namespace

const char *type_name(Type type) {
  switch (type) {
    case Type::hello:
      return "hello";
    case Type::imports:
      return "imports";
    case Type::plan:
      return "plan";
    case Type::apply:
      return "apply";
    case Type::revert:
      return "revert";
    case Type::status:
      return "status";
  }
  return "unknown";
}

bool needs_file(Type type) { return (bit(type) & kPatch) != 0; }

std::string encode(const Request &request) {
  std::string message(sizeof(Header), '\0');
  std::size_t fields = 0;
  for (const FieldRule &rule : kRules) {
    if (rule.flag != nullptr && request.*rule.flag) {
      put_field(message, rule.tag, "");
      ++fields;
    } else if (rule.list != nullptr) {
      for (const std::string &one : request.*rule.list) put_field(message, rule.tag, one);
      fields += (request.*rule.list).size();
    } else if (rule.string != nullptr && !(request.*rule.string).empty()) {
      put_field(message, rule.tag, request.*rule.string);
      ++fields;
    }
  }
  if (message.size() > kMaximumRequest || fields > kMaximumFields) return "";
  Header header;
  header.type = static_cast<std::uint16_t>(request.type);
  header.length = static_cast<std::uint32_t>(message.size());
  std::memcpy(message.data(), &header, sizeof header);
  return message;
}

std::optional<std::string> decode(const char *bytes, std::size_t size, Request &request) {
  if (size > kMaximumRequest) return text("the message is longer than ", kMaximumRequest, " bytes");
  Header header;
  if (auto wrong = check_header(bytes, size, header)) return wrong;
  if (header.flags != 0) return "the message has flags, which only answers have";
  if (header.type < static_cast<std::uint16_t>(Type::hello) || header.type > static_cast<std::uint16_t>(Type::status))
    return text("the request ", header.type, " is unknown here: the client may be newer");
  request = Request{};
  request.type = static_cast<Type>(header.type);
  std::size_t fields = 0;
  for (std::size_t at = sizeof header; at < size; ++fields) {
    if (fields == kMaximumFields) return text("the message has more than ", kMaximumFields, " fields");
    if (size - at < kFieldHeader) return "the message ends inside a field";
    std::uint16_t tag;
    std::uint32_t length;
    std::memcpy(&tag, bytes + at, sizeof tag);
    std::memcpy(&length, bytes + at + sizeof tag, sizeof length);
    at += kFieldHeader;
    if (length > size - at) return "the message ends inside a field";
    if (auto wrong = take_field(request, tag, bytes + at, length)) return wrong;
    at += length;
  }
  return check_whole(request);
}

std::string encode_piece(std::uint16_t type, const std::string &text, std::size_t &offset) {
  const std::size_t size = std::min(text.size() - offset, kMaximumPiece - sizeof(Header));
  Header header;
  header.type = static_cast<std::uint16_t>(type | kAnswerBit);
  header.length = static_cast<std::uint32_t>(sizeof header + size);
  header.flags = offset + size < text.size() ? kMoreFollows : 0;
  std::string message(reinterpret_cast<const char *>(&header), sizeof header);
  message.append(text, offset, size);
  offset += size;
  return message;
}

std::optional<std::string> decode_piece(const char *bytes, std::size_t size, Type type, std::string &text, bool &more) {
  if (size > kMaximumPiece) return "a message of the answer is too long";
  Header header;
  if (auto wrong = check_header(bytes, size, header)) return wrong;
  if (header.type != (static_cast<std::uint16_t>(type) | kAnswerBit) && header.type != kAnswerBit)
    return "the answer is not to what was asked";
  if ((header.flags & ~kMoreFollows) != 0) return "the answer has flags that are unknown here";
  more = (header.flags & kMoreFollows) != 0;
  if (more && size == sizeof header) return "a message of the answer is empty";
  if (text.size() + size - sizeof header > kMaximumAnswer) return "the answer is too long";
  text.append(bytes + sizeof header, size - sizeof header);
  return std::nullopt;
}

}  // namespace shunt::control
