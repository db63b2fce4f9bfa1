#include "engine/entry_planner.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "arch/native_code.hpp"

namespace shunt::core {
namespace {

/// "0x401130": the request names a function by its address. 0 when it does not.
std::uintptr_t address_in(const std::string &symbol) {
  if (symbol.compare(0, 2, "0x") != 0) return 0;
  char *end = nullptr;
  errno = 0;
  const unsigned long value = std::strtoul(symbol.c_str(), &end, 16);
  return *end == '\0' && errno == 0 ? value : 0;
}

bool is_function_type(const Elf64_Sym &symbol) {
  return symbol_type(symbol) == STT_FUNC || symbol_type(symbol) == STT_GNU_IFUNC || symbol_type(symbol) == STT_NOTYPE;
}

std::string joined(const std::vector<std::string> &names) {
  constexpr std::size_t kShown = 6;
  std::string text;
  for (std::size_t k = 0; k < std::min(names.size(), kShown); ++k) text += (k > 0 ? ", " : "") + names[k];
  if (names.size() > kShown) text += " and " + std::to_string(names.size() - kShown) + " more";
  return text;
}

/// Where shunt is linked statically, its own functions lie among the program's.
bool is_in_shunt(const KnownCode &code, const std::vector<std::string> &names) {
  return code.code.text_at(reinterpret_cast<std::uintptr_t>(&is_in_shunt)) != nullptr &&
         std::any_of(names.begin(), names.end(), [](const std::string &name) {
           return name.starts_with("shunt_") || name.find("5shunt4core") != std::string::npos;
         });
}

}  // namespace

void EntryPlanner::run(Problem &problem) {
  for (std::uint32_t k = 0; k < plan_.requests.size() && !problem; ++k) decide(k, problem);
}

void EntryPlanner::decide(std::uint32_t k, Problem &problem) {
  const Request &asked = *plan_.requests[k];
  PlannedRedirect &redirect = plan_.redirects[k];
  if (asked.reach == Reach::slots) return;
  if (asked.is_for_some()) {
    redirect.entry_why = EntryWhy::for_some;
    return;
  }
  if (asked.reach == Reach::automatic && redirect.slots > 0) {
    const EntryWhy why = inner_use(k, problem);
    if (why != EntryWhy::no_inner_call)
      plan_entry(k, why, problem);
    else
      redirect.entry_why = why;
    return;
  }
  if (redirect.function == 0) find_function(k, problem);
  if (redirect.function == 0 || problem || outside_.is_wanting()) return;
  plan_entry(k, asked.reach == Reach::entry ? EntryWhy::entry_asked : EntryWhy::no_slot, problem);
}

// ---- the choice

/// Whether its provider calls it without a slot, or could: it may call what it keeps the address of.
EntryWhy EntryPlanner::inner_use(std::uint32_t k, Problem &problem) {
  const PlannedRedirect &redirect = plan_.redirects[k];
  if (*redirect.provider == '\0') return EntryWhy::no_inner_call;  // code outside every object
  KnownCode *const code = reader_.code_at(redirect.function, problem);
  // plan_entry() says why not.
  if (code == nullptr || code->untouchable != nullptr || !reader_.can_read(*code)) return EntryWhy::inner_call;
  const arch::JumpTargets *const jumps = code->code.jumps(*code->code.text_at(redirect.function));
  if (jumps == nullptr) {
    problem.set(Code::out_of_memory, "no memory for the jumps in %s", code->path);
    return EntryWhy::no_inner_call;
  }
  if (jumps->leads_to(redirect.function)) return EntryWhy::inner_call;
  const bool is_kept =
      code->code.keeps(redirect.function, [&](std::uintptr_t place) { return plan_.list.at(place) != nullptr; });
  return is_kept ? EntryWhy::kept_address : EntryWhy::no_inner_call;
}

void EntryPlanner::plan_entry(std::uint32_t k, EntryWhy why, Problem &problem) {
  if (problem || outside_.is_wanting()) return;
  PlannedRedirect &redirect = plan_.redirects[k];
  const Request &asked = *plan_.requests[k];
  redirect.entry = static_cast<std::uint32_t>(plan_.entries.size());
  PlannedEntry &entry = plan_.entries.emplace_back();
  entry.why_not = why_not(k, entry, problem);
  entry.is_chosen = entry.why_not.empty();
  redirect.entry_why = entry.is_chosen ? why : EntryWhy::refused;
  if (problem || outside_.is_wanting()) return;
  if (entry.is_chosen) return check_twice(k, problem);
  const bool has_other_use = redirect.slots > 0 || redirect.stands_for_dlsym || asked.is_optional;
  if (asked.reach == Reach::automatic && has_other_use) return;
  problem.symbol = asked.symbol.c_str();
  problem.object = redirect.provider;
  problem.address = redirect.function;
  const bool has_other_way = asked.reach == Reach::entry;
  problem.set(Code::entry_refused, "cannot redirect the entry of '%s' in %s%s: it %s", problem.symbol, problem.object,
              has_other_way ? "" : ", which nobody calls through a slot", entry.why_not.c_str());
}

/// Empty when the entry can be redirected.
std::string EntryPlanner::why_not(std::uint32_t k, PlannedEntry &entry, Problem &problem) {
  const PlannedRedirect &redirect = plan_.redirects[k];
  KnownCode *const code = reader_.code_at(redirect.function, problem);
  if (code == nullptr) return "lies in no loaded object";
  if (code->untouchable != nullptr) return code->untouchable;
  entry.object = code->id;
  if (!reader_.can_read(*code)) return "lies in an object that cannot be kept from being unloaded meanwhile";
  const ObjectFunctions *const functions = reader_.functions_of(*code, problem);
  if (functions == nullptr) return "has names that cannot be read";
  entry.names_from = functions->where_names_came_from();
  if (std::string why = why_not_its_names(k, *code, entry); !why.empty()) return why;

  if (EntryId known = 0; entries_.find_redirected(redirect.function, known)) {
    entry.plan = entries_.entry(known).plan;
    return "";
  }
  switch (outside_.decoder()) {
    case Outside::State::held:
      break;
    case Outside::State::failed:
      return arch::refusal_text(arch::Refusal::no_decoder);
    case Outside::State::wanted:
      return "waits for the decoder";
  }
  auto description = functions->describe(redirect.function, code->code);
  if (!description) return "is not known: " + description.error().message;
  entry.plan = arch::NativeCode::plan(description->function);
  if (entry.plan.form != arch::JumpForm::refused) return "";
  return std::string(arch::refusal_text(entry.plan.refusal)) + " (at +" + std::to_string(entry.plan.refused_at) +
         "; it has " + std::to_string(description->function.body.size) + " bytes)";
}

std::string EntryPlanner::why_not_its_names(std::uint32_t k, KnownCode &code, PlannedEntry &entry) const {
  const Request &asked = *plan_.requests[k];
  bool has_name = false;
  std::vector<std::string> strangers;
  const std::uintptr_t function = plan_.redirects[k].function;
  const bool is_address = address_in(asked.symbol) != 0;
  // The name itself, or what a compiler made of it.
  std::vector<std::string> own;
  for (const FunctionName &one : code.functions->named(asked.symbol))
    if (one.address == function) own.emplace_back(one.name);
  for (const FunctionName &one : code.functions->at(function)) {
    std::string name = one.name;
    if (std::find(entry.names.begin(), entry.names.end(), name) != entry.names.end()) continue;
    const bool is_own = std::find(own.begin(), own.end(), name) != own.end();
    has_name = has_name || is_own;
    if (!is_own && !is_accepted(k, name)) strangers.push_back(name);
    entry.names.push_back(std::move(name));
  }
  if (is_in_shunt(code, entry.names)) return "belongs to shunt itself, which is linked into its object";
  if (is_address && strangers.size() <= 1) return "";
  if (!has_name && !is_address)
    return "is what an IFUNC chose: which other functions lead to the same code cannot be told";
  if (strangers.empty()) return "";
  return "has further names, whose calls would be redirected as well: " + joined(strangers) +
         " (accept them by name, or redirect slots)";
}

/// A name of the function that the user has meant: asked for, accepted, or replaced by the very same.
bool EntryPlanner::is_accepted(std::uint32_t k, const std::string &name) const {
  const Request &asked = *plan_.requests[k];
  if (std::find(asked.also.begin(), asked.also.end(), name) != asked.also.end()) return true;
  return asked.replacement != 0 && std::any_of(plan_.requests.begin(), plan_.requests.end(), [&](const auto &other) {
           return other->symbol == name && other->replacement == asked.replacement;
         });
}

/// One entry leads to one place.
void EntryPlanner::check_twice(std::uint32_t k, Problem &problem) const {
  for (std::uint32_t other = 0; other < k; ++other) {
    if (plan_.redirects[other].function != plan_.redirects[k].function || plan_.entry_of(other) == nullptr ||
        plan_.requests[other]->replacement == plan_.requests[k]->replacement)
      continue;
    problem.symbol = plan_.requests[k]->symbol.c_str();
    problem.object = plan_.redirects[k].provider;
    problem.address = plan_.redirects[k].function;
    return problem.set(Code::invalid_argument,
                       "two redirects in one transaction, of '%s' and '%s', mean the same entry, at %#lx in %s",
                       plan_.requests[other]->symbol.c_str(), problem.symbol, plan_.redirects[k].function,
                       problem.object);
  }
}

// ---- functions without a slot

void EntryPlanner::find_function(std::uint32_t k, Problem &problem) {
  std::vector<Candidate> found;
  const bool is_address = address_in(plan_.requests[k]->symbol) != 0;
  if (is_address ? !find_address(k, found, problem) : !find_exported(k, found, problem)) return;
  if (found.empty() && !is_address && !find_static(k, found, problem)) return;
  if (found.empty()) return;
  if (found.size() > 1) {
    if (!plan_.requests[k]->is_optional) return tell_several(k, found, problem);
    PlannedRedirect &redirect = plan_.redirects[k];
    redirect.entry_why = EntryWhy::refused;
    redirect.entry = static_cast<std::uint32_t>(plan_.entries.size());
    plan_.entries.emplace_back().why_not = "is the name of " + std::to_string(found.size()) + " functions";
    return;
  }
  plan_.redirects[k].function = found[0].function;
  plan_.redirects[k].original = found[0].function;
  plan_.redirects[k].provider = found[0].path;
}

bool EntryPlanner::find_exported(std::uint32_t k, std::vector<Candidate> &found, Problem &problem) {
  const Request &asked = *plan_.requests[k];
  struct Found {
    std::uintptr_t function;
    const char *path;
  } some[kCandidatesShown];
  std::size_t count = 0;
  objects_.while_locked(problem, [&](Problem &) {
    for (const Object &object : objects_.in_load_order()) {
      if (!object.is_readable || object.is_own || object.is_vdso || is_patch(patches_, object)) continue;
      if (!asked.provider.empty() && !object.matches(asked.provider.c_str())) continue;
      const Elf64_Sym *symbols[kCandidatesShown];
      const std::size_t versions = find_definitions(object.image, asked.name, symbols);
      for (const Elf64_Sym *const symbol : std::span(symbols, versions)) {
        const std::uintptr_t function = object.image.symbol_address(*symbol);
        if (is_function_type(*symbol) && object.image.is_code(function) && count < kCandidatesShown)
          some[count++] = {function, object.path};
      }
    }
  });
  for (const Found &one : std::span(some, count)) found.push_back({one.function, one.path, asked.symbol});
  return !problem;
}

/// In the symbol tables of all objects. Several functions of one name in one object are told apart by their source files.
bool EntryPlanner::find_static(std::uint32_t k, std::vector<Candidate> &found, Problem &problem) {
  const Request &asked = *plan_.requests[k];
  if (!reader_.know_all(problem)) return false;
  for (KnownCode *code : reader_.all()) {
    if (code->untouchable != nullptr || !reader_.can_read(*code)) continue;
    if (!asked.provider.empty()) {
      bool is_asked = false;
      objects_.while_locked(problem, [&](Problem &) {
        const Object *object = objects_.with_id(code->id);
        is_asked = object != nullptr && object->matches(asked.provider.c_str());
      });
      if (!is_asked) continue;
    }
    const ObjectFunctions *const functions = reader_.functions_of(*code, problem);
    if (functions == nullptr) return false;
    for (const FunctionName &one : functions->named(asked.symbol)) {
      const auto is_same = [&](const Candidate &other) { return other.function == one.address; };
      if (std::none_of(found.begin(), found.end(), is_same))
        found.push_back({one.address, code->path,
                         *one.source != '\0' ? std::string(one.source) + ":" + one.name : std::string(one.name)});
    }
  }
  return !outside_.is_wanting() && !problem;
}

bool EntryPlanner::find_address(std::uint32_t k, std::vector<Candidate> &found, Problem &problem) {
  const Request &asked = *plan_.requests[k];
  const std::uintptr_t address = address_in(asked.symbol);
  const KnownCode *const code = reader_.code_at(address, problem);
  if (code != nullptr) found.push_back({address, code->path, asked.symbol});
  return !problem;
}

void EntryPlanner::tell_several(std::uint32_t k, const std::vector<Candidate> &found, Problem &problem) const {
  std::string list;
  for (std::size_t n = 0; n < std::min<std::size_t>(found.size(), 4); ++n) {
    char one[200];
    std::snprintf(one, sizeof one, "%s%s in %s at %#lx", n > 0 ? "; " : "", found[n].name.c_str(), found[n].path,
                  found[n].function);
    list += one;
  }
  problem.symbol = plan_.requests[k]->symbol.c_str();
  problem.object = found[0].path;
  problem.address = found[0].function;
  problem.set(Code::several_functions, "'%s' is %zu functions here (name a provider, FILE:NAME or an address): %s",
              problem.symbol, found.size(), list.c_str());
}

}  // namespace shunt::core
