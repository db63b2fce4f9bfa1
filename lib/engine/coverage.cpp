// coverage.cpp: a plan in words: for each function which calls it reaches, which it does not, and why.
#include <algorithm>
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
    case Beside::beneath:
      return "hold a layer of shunt, which is asked before this entry: calls through them do not come to this layer";
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

std::string joined(const std::vector<std::string> &names) {
  std::string text;
  for (const std::string &name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

/// Whether the entry is redirected too, and what that means for calls that use no slot.
void describe_entry(std::string &text, const PlannedRedirect &redirect, const PlannedEntry *entry,
                    const std::string &why) {
  const char *const provider = redirect.provider;
  switch (redirect.entry_why) {
    case EntryWhy::slots_asked:
      if (!redirect.provider_calls_through_slots)
        append(text, "  calls inside %s itself go through no slot: not reached\n", provider);
      return;
    case EntryWhy::for_some:
      if (!redirect.provider_calls_through_slots)
        append(text, "  calls inside %s itself go through no slot: not reached, since %s\n", provider, why.c_str());
      return;
    case EntryWhy::no_inner_call:
      return append(text, "  slots only: %s\n", why.c_str());
    case EntryWhy::refused:
      append(text, "  no entry%s%s%s: it ", redirect.slots > 0 ? ", calls inside " : "",
             redirect.slots > 0 ? provider : "", redirect.slots > 0 ? " itself are not reached" : "");
      text += why + "\n";
      return;
    case EntryWhy::inner_call:
    case EntryWhy::kept_address:
    case EntryWhy::no_slot:
    case EntryWhy::entry_asked:
      append(text, "  entry: jump at %#lx (%s), since ", redirect.function + entry->plan.site,
             arch::form_name(entry->plan.form));
      text += why + "\n";
  }
  if (entry->names.size() > 1) text += "  all names of this code: " + joined(entry->names) + "\n";
}

void describe(std::string &text, const Request &request, const PlannedRedirect &redirect, const PlannedEntry *entry,
              const std::string &why) {
  const char *const provider = *redirect.provider != '\0' ? redirect.provider : "code outside every object";
  if (redirect.slots > 0)
    append(text, "%s: %u slot%s in %u object%s, defined by %s\n", request.symbol.c_str(), redirect.slots,
           plural(redirect.slots), redirect.callers, plural(redirect.callers), provider);
  else if (entry != nullptr && entry->is_chosen)
    append(text, "%s: its entry, defined by %s\n", request.symbol.c_str(), provider);
  else if (redirect.stands_for_dlsym)
    append(text, "%s: no slot, defined by %s\n", request.symbol.c_str(), provider);
  else
    append(text, "%s: matches nothing in this process\n", request.symbol.c_str());
  if (request.dlsym && !request.is_own && *redirect.provider != '\0')
    append(text, "  dlsym() and dlvsym() answer with the replacement\n");
  if (redirect.slots > 0 || entry != nullptr) describe_entry(text, redirect, entry, why);
  for (std::size_t k = 0; k < redirect.beside.size(); ++k) {
    const BesideCount &beside = redirect.beside[k];
    if (beside.count > 0)
      append(text, "  %u slot%s, in %s for one, %s\n", beside.count, plural(beside.count), beside.example,
             beside_text(static_cast<Beside>(k)));
  }
}

}  // namespace

std::size_t Plan::entry_count() const {
  return static_cast<std::size_t>(
      std::count_if(entries.begin(), entries.end(), [](const PlannedEntry &entry) { return entry.is_chosen; }));
}

bool Plan::is_empty() const {
  for (std::size_t k = 0; k < redirects.size(); ++k)
    if (does(k)) return false;
  return true;
}

std::string Plan::entry_why(std::size_t k) const {
  const PlannedRedirect &redirect = redirects[k];
  if (redirect.function == 0 && known_entry(k) == nullptr) return "";
  switch (redirect.entry_why) {
    case EntryWhy::slots_asked:
      return "";
    case EntryWhy::no_inner_call:
      return std::string("nothing in ") + redirect.provider +
             " calls it itself, or keeps its address; copies inlined there are not seen";
    case EntryWhy::for_some:
      return "an entry is not for some of the calls only";
    case EntryWhy::refused:
      return entries[redirect.entry].why_not;
    case EntryWhy::inner_call:
      return std::string(redirect.provider) + " calls it directly or takes its address";
    case EntryWhy::kept_address:
      return std::string(redirect.provider) + " keeps its address among its data";
    case EntryWhy::no_slot:
      return "nobody calls it through a slot";
    case EntryWhy::entry_asked:
      return "that was asked for";
  }
  return "";
}

std::string Plan::entry_names(std::size_t k) const {
  const PlannedEntry *const entry = known_entry(k);
  return entry != nullptr ? joined(entry->names) : "";
}

std::string Plan::coverage() const {
  std::string text;
  for (std::size_t k = 0; k < requests.size(); ++k)
    if (does(k)) describe(text, *requests[k], redirects[k], known_entry(k), entry_why(k));
  for (std::size_t k = 0; k < requests.size(); ++k)
    if (!does(k)) describe(text, *requests[k], redirects[k], known_entry(k), entry_why(k));
  if (lookups != nullptr)
    append(text, "dlsym and dlvsym: %zu slots in %zu objects lead to shunt, which answers for these functions\n",
           lookups->list.slots.size(), lookups->list.spans.size());
  for (const UnreadObject &object : unread) append(text, "%s: not examined: %s\n", object.path, object.reason);
  return text;
}

}  // namespace shunt::core
