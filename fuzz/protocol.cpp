// A message of any bytes, as it may come over the control socket: it is refused with a sentence, or it is a request that comes
// back as it was when it is sent again. As a piece of an answer as well, which is what a client gets.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "control/json.hpp"
#include "control/protocol.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *bytes, std::size_t size) {
  using namespace shunt::control;
  const char *const message = reinterpret_cast<const char *>(bytes);
  Request request;
  if (!decode(message, size, request)) {
    const std::string again = encode(request);
    Request back;
    if (decode(again.data(), again.size(), back) || !(back == request)) std::abort();
  }
  std::string text;
  bool more = false;
  (void)decode_piece(message, size, Type::status, text, more);
  Json json;
  json.begin_array().string({message, size}).end_array();
  return json.text().size() >= 4 ? 0 : -1;
}
