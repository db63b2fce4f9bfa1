// coverage.cpp: a plan in words: for each function which calls it reaches, which it does not, and why.
#include <cstdarg>
#include <cstdio>

#include "engine/plan.hpp"

namespace shunt::core {

const char *beside_text(Beside what) {
  switch (what) {
    case Beside::other_version:
      return "ask for another version: left alone";
    case Beside::other_provider:
      return "are bound to another provider: left alone";
    case Beside::unprovided:
      return "are weak imports that nobody provides: left alone";
    case Beside::canonical:
      return "hold the program's own PLT entry: reached through the program's slot";
    case Beside::unaligned:
      return "are not aligned to a word: not reached";
    case Beside::text:
      return "lie in code (text relocations): not reached";
    case Beside::far:
      return "lie more than 4 GiB behind the beginning of their object: not reached";
    case Beside::addend:
      return "point behind the function, not to it: not reached";
    case Beside::foreign:
      return "held no definition of the symbol (another tool's hook?): taken, and given back on revert";
    case Beside::layered:
      return "held a layer of shunt below this one";
    case Beside::lazy:
      return "were not bound yet";
    case Beside::kCount:
      break;
  }
  return "";
}

namespace {

[[gnu::format(printf, 2, 3)]] void append(std::string &text, const char *format, ...) {
  char line[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  text += line;
}

const char *plural(std::uint32_t count) { return count == 1 ? "" : "s"; }

void describe(std::string &text, const Request &request, const PlannedRedirect &redirect) {
  if (redirect.slots == 0) {
    append(text, "%s: matches nothing in this process\n", request.symbol.c_str());
  } else {
    append(text, "%s: %u slot%s in %u object%s, defined by %s\n", request.symbol.c_str(), redirect.slots,
           plural(redirect.slots), redirect.callers, plural(redirect.callers),
           *redirect.provider != '\0' ? redirect.provider : "code outside every object");
    if (!redirect.provider_calls_through_slots)
      append(text, "  calls inside %s itself go through no slot: not reached\n", redirect.provider);
  }
  for (std::size_t k = 0; k < redirect.beside.size(); ++k) {
    const BesideCount &beside = redirect.beside[k];
    if (beside.count > 0)
      append(text, "  %u slot%s, in %s for one, %s\n", beside.count, plural(beside.count), beside.example,
             beside_text(static_cast<Beside>(k)));
  }
}

}  // namespace

std::string Plan::coverage() const {
  std::string text;
  for (std::size_t k = 0; k < requests.size(); ++k)
    if (redirects[k].slots > 0) describe(text, *requests[k], redirects[k]);
  for (std::size_t k = 0; k < requests.size(); ++k)
    if (redirects[k].slots == 0) describe(text, *requests[k], redirects[k]);
  for (const UnreadObject &object : unread) append(text, "%s: not examined: %s\n", object.path, object.reason);
  return text;
}

}  // namespace shunt::core
