#include "cli/plan_text.hpp"

#include "cli/names.hpp"

namespace shunt::cli {
namespace {

bool has_entry(const Json &function) {
  const Json &chosen = part_of(part_of(function, "entry"), "chosen");
  return chosen.is_boolean() && chosen.get<bool>();
}

bool is_reached(const Json &function) {
  return number_of(function, "slots") > 0 || has_entry(function) || function.value("dlsym", false);
}

/// What becomes of the function's entry, and so of calls that use no slot.
std::string entry_text(const Json &function) {
  const Json &entry = part_of(function, "entry");
  const std::string provider = text_of(function, "provider"), why = printable(text_of(entry, "why"));
  if (has_entry(function)) {
    std::string text = "  entry: jump at " + text_of(entry, "address") + ", since " + why + "\n", names;
    for (const Json &name : list_of(entry, "names"))
      if (name.is_string()) names += (names.empty() ? "" : ", ") + printable(demangled(name.get<std::string>()));
    if (list_of(entry, "names").size() > 1) text += "  all names of this code: " + names + "\n";
    return text;
  }
  if (provider.empty() || function.value("provider_calls_through_slots", true)) return "";
  return "  not reached: calls inside " + printable(provider) + ", which go through no slot" +
         (why.empty() ? "" : " (no entry: " + why + ")") + "\n";
}

std::string function_text(const Json &function, const Console &console) {
  const std::string name = printable(demangled(text_of(function, "symbol")));
  const std::string replacement = text_of(function, "replacement"), provider = text_of(function, "provider");
  std::string text = console.paint(is_reached(function) ? Colour::good : Colour::bad, name);
  if (replacement != text_of(function, "symbol")) text += " by " + printable(demangled(replacement));
  text += ": " + counted(number_of(function, "slots"), "slot") + " in " +
          counted(list_of(function, "callers").size(), "object");
  text += ", defined by " + (provider.empty() ? "code outside every object" : printable(provider)) + "\n";
  if (const std::uint64_t below = number_of(function, "layers_below"); below > 0)
    text += "  on top of " + counted(below, "redirect") + " that stands already\n";
  for (const Json &caller : list_of(function, "callers"))
    text += "  " + printable(text_of(caller, "object")) + ": " + counted(number_of(caller, "slots"), "slot") + "\n";
  text += entry_text(function);
  if (function.value("dlsym", false)) text += "  dlsym() answers with the replacement\n";
  for (const Json &beside : list_of(function, "beside"))
    text += std::string(beside.value("taken", false) ? "  " : "  not reached: ") +
            counted(number_of(beside, "count"), "slot") + ", in " + printable(text_of(beside, "example")) +
            " for one, that " + printable(text_of(beside, "text")) + "\n";
  return text;
}

}  // namespace

std::string text_of(const Json &object, const char *field) {
  const Json &part = part_of(object, field);
  return part.is_string() ? part.get<std::string>() : "";
}

std::uint64_t number_of(const Json &object, const char *field) {
  const Json &part = part_of(object, field);
  if (!part.is_number_integer()) return 0;
  return part.is_number_unsigned() || part.get<std::int64_t>() >= 0 ? part.get<std::uint64_t>() : 0;
}

const Json &part_of(const Json &object, const char *field) {
  static const Json kNothing;
  const auto found = object.is_object() ? object.find(field) : object.end();
  return found != object.end() ? *found : kNothing;
}

const Json &list_of(const Json &object, const char *field) {
  static const Json kNothing = Json::array();
  const Json &part = part_of(object, field);
  return part.is_array() ? part : kNothing;
}

std::string plan_text(const Json &plan, const Console &console) {
  std::string text;
  for (const Json &function : list_of(plan, "functions")) text += function_text(function, console);
  if (const Json &lookups = part_of(plan, "lookups"); lookups.is_object())
    text += "dlsym, dlvsym: " + counted(number_of(lookups, "slots"), "slot") + " in " +
            counted(number_of(lookups, "objects"), "object") + " lead to shunt, which answers for these functions\n";
  for (const Json &name : list_of(plan, "unmatched"))
    if (name.is_string())
      text += console.paint(Colour::bad, printable(demangled(name.get<std::string>()))) +
              ": no object calls it through a slot, and it is nobody's function\n";
  for (const Json &object : list_of(plan, "unread"))
    text += printable(text_of(object, "object")) + ": not examined: " + printable(text_of(object, "reason")) + "\n";
  for (const Json &library : list_of(plan, "needs"))
    if (library.is_string()) text += "brings in " + printable(library.get<std::string>()) + "\n";
  return text;
}

bool is_plan_short(const Json &plan) {
  for (const Json &function : list_of(plan, "functions"))
    if (!is_reached(function)) return true;
  return !list_of(plan, "unmatched").empty() || list_of(plan, "functions").empty();
}

}  // namespace shunt::cli
