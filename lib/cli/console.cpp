#include "cli/console.hpp"

#include <cstdio>

namespace shunt::cli {
namespace {

/// Names in files are bytes, not always UTF-8: what is not is replaced, so that the document is always valid.
std::string dump(const Json &document) { return document.dump(2, ' ', false, Json::error_handler_t::replace); }

}  // namespace

Json Console::document() { return {{"schema", 1}, {"ok", true}}; }

void Console::print(const Json &document) const { std::printf("%s\n", dump(document).c_str()); }

void Console::print(const std::string &text) const { std::fputs(text.c_str(), stdout); }

void Console::report(const Failure &failure) const {
  if (is_json) {
    Json error = {{"code", failure.code}, {"message", failure.message}};
    if (!failure.advice.empty()) error["advice"] = failure.advice;
    Json document = {{"schema", 1}, {"ok", false}, {"error", error}};
    document.update(failure.beside);
    print(document);
    return;
  }
  complain(failure.message);
  if (!failure.advice.empty()) std::fprintf(stderr, "%s\n", printable(failure.advice).c_str());
}

void Console::complain(const std::string &sentence) {
  std::fprintf(stderr, "shunt: %s\n", printable(sentence).c_str());
}

}  // namespace shunt::cli
