#include "engine/planner.hpp"

#include <sys/mman.h>

#include <algorithm>

namespace shunt::core {
namespace {

/// Of the slot itself; what the symbol's address was to be displaced by.
std::uintptr_t addend_of(const Relocation &relocation) {
  return static_cast<std::uintptr_t>(relocation.kind == arch::RelocKind::absolute ? relocation.addend : 0);
}

bool is_data_type(unsigned type) { return type == STT_OBJECT || type == STT_TLS || type == STT_COMMON; }

}  // namespace

Planner::Planner(ObjectTable &objects, const Layers &layers, NameNumbers &names, LastSearch &last,
                 std::span<const LoadedPatch> patches, bool trusts, Plan &plan)
    : objects_(objects),
      resolver_(objects, patches),
      finder_(objects, names, last, patches, plan),
      layers_(layers),
      plan_(plan),
      common_(plan.requests.size()),
      states_(plan.requests.size()),
      trusts_(trusts) {
  plan_.redirects.resize(plan_.requests.size());
  for (std::size_t k = 0; k < plan_.requests.size(); ++k) {
    const Request &request = *plan_.requests[k];
    states_[k].takes_any = request.version.empty() && request.provider.empty() && request.reach != Reach::entry &&
                           layers_.over(request.symbol).empty();
  }
}

void Planner::run(Problem &problem) {
  if (plan_.requests.size() > kMostRedirects)
    return problem.set(Code::invalid_argument, "%zu redirects are more than one transaction takes",
                       plan_.requests.size());
  for (const auto &request : plan_.requests) {
    if (request->reach != Reach::entry || !request->is_for_some()) continue;
    problem.symbol = request->symbol.c_str();
    return problem.set(Code::invalid_argument,
                       "'%s' cannot be redirected at its entry for some of its calls only: an entry is what all calls "
                       "come to (leave out the callers and the version, or redirect slots)",
                       problem.symbol);
  }
  if (!finder_.prepare(problem)) return;
  plan_.is_trusted = trusts_ && finder_.knows_all() &&
                     std::all_of(states_.begin(), states_.end(), [](const State &state) { return state.takes_any; });
  if (plan_.is_trusted)
    run_trusting(problem);
  else
    run_reading(problem);
  if (problem) return;
  for (std::uint32_t k = 0; k < plan_.requests.size(); ++k) {
    PlannedRedirect &redirect = plan_.redirects[k];
    const Request &request = *plan_.requests[k];
    const bool may_have_entry = request.reach != Reach::slots && !request.is_for_some();
    if (redirect.slots == 0 && request.dlsym) find_without_slot(k, problem);
    if (problem) return;
    if (redirect.slots == 0 && !redirect.stands_for_dlsym && !request.is_optional && !may_have_entry)
      return explain_nothing(k, problem);
    redirect.original = redirect.function;
  }
  plan_.generation = objects_.generation();
  plan_.objects_below = objects_.next_id();
}

/// The function of a redirect that stands for dlsym() alone: what the program's objects have of that name, or else the only one.
void Planner::find_without_slot(std::uint32_t request, Problem &problem) {
  const Request &asked = *plan_.requests[request];
  const char *const version = asked.version.empty() ? nullptr : asked.version.c_str();
  const std::span<Object> all = objects_.in_load_order();
  Definition found;
  for (std::size_t k = 0; k < all.size(); ++k) {
    if (!resolver_.is_searched(all[k]) || (!asked.provider.empty() && !all[k].matches(asked.provider.c_str())))
      continue;
    const Elf64_Sym *const symbol = find_for_dlsym(all[k].image, asked.name, version);
    if (symbol == nullptr || !is_defined(*symbol)) continue;
    if (found.symbol != nullptr) {
      if (asked.reach != Reach::slots && !asked.is_for_some()) return;  // where its entry is looked for that is told
      problem.symbol = asked.symbol.c_str();
      problem.object = all[k].path;
      return problem.set(Code::several_functions,
                         "'%s' has no slot, and is not one function here: %s and %s define it (name a provider)",
                         problem.symbol, found.provider->path, all[k].path);
    }
    found = {Definition::State::found, &all[k], nullptr, symbol, 0};
    if (k < objects_.startup_count() || asked.is_own) break;
  }
  if (found.symbol == nullptr) return;
  found.address = function_address(*found.provider, *found.symbol);
  plan_.redirects[request].stands_for_dlsym = take_function(request, all[0], found, problem);
}

void Planner::run_reading(Problem &problem) {
  const auto read = [&](std::uint32_t number, Object &object) { return read_span(number, object, problem); };
  if (!finder_.run(read, problem)) return;
  for (std::size_t k = 0; k < common_.size(); ++k) {
    plan_.redirects[k].slots = common_[k].slots;
    plan_.redirects[k].callers = common_[k].callers;
  }
  if (has_gaps_) close_gaps();
  if (!check_shared(problem)) return;
  see_providers();
  const bool all_hold_functions = !has_gaps_ && plan_.list.odd.empty() && !plan_.has_late && plan_.self_slots.empty();
  if (all_hold_functions &&
      std::all_of(states_.begin(), states_.end(), [](const State &state) { return state.takes_any; }))
    finder_.learn();
}

/// Everything is as it was when the slots were last read; but for the replacements.
void Planner::run_trusting(Problem &problem) {
  if (!finder_.take_known(problem)) return;
  for (std::uint32_t k = 0; k < plan_.requests.size(); ++k) {
    const Held &held = finder_.held(k);
    PlannedRedirect &redirect = plan_.redirects[k];
    redirect.function = held.function;
    redirect.provider = held.provider;
    redirect.slots = held.slots;
    redirect.callers = held.callers;
    redirect.provider_calls_through_slots = held.provider_calls_through_slots;
    if (held.slots > 0 && !check_replacement(k, problem)) return;
  }
}

bool Planner::read_span(std::uint32_t number, Object &object, Problem &problem) {
  Span &span = plan_.list.spans[number];
  std::uint32_t low = UINT32_MAX, high = 0;
  const bool is_late = !object.image.binds_at_start();
  for (Slot &slot : plan_.list.in(span)) {
    Common &common = common_[slot.redirect];
    if (!slot.is_plain || load_word(span.base + slot.where) != common.function) {
      if (!plan_special(object, slot, problem)) return false;
      if (slot.is_left) {
        has_gaps_ = true;
        continue;
      }
    }
    if (is_late && slot.kind == arch::RelocKind::jump_slot) slot.is_late = plan_.has_late = true;
    low = std::min(low, slot.where);
    high = std::max(high, slot.where);
    ++common.slots;
    common.callers += common.last_span != number ? 1 : 0;
    common.last_span = number;
  }
  span.low = span.base + low;
  span.high = span.base + high;
  return true;
}

/// Does a provider call its own function through a slot?
void Planner::see_providers() {
  for (std::uint32_t k = 0; k < plan_.requests.size(); ++k) {
    const Object *provider = plan_.redirects[k].function != 0 ? objects_.at(plan_.redirects[k].function) : nullptr;
    if (provider == nullptr) continue;
    const SlotList &list = plan_.list;
    const Span *span = std::lower_bound(list.spans.begin(), list.spans.end(), provider->image.low(),
                                        [](const Span &one, std::uintptr_t low) { return one.base < low; });
    if (span == list.spans.end() || span->object != provider->id) continue;
    for (const Slot &slot : list.in(*span))
      if (slot.redirect == k) plan_.redirects[k].provider_calls_through_slots = true;
  }
}

/// Takes out the slots that are left alone, and objects that have no others.
void Planner::close_gaps() {
  SlotList &list = plan_.list;
  std::uint32_t kept_slots = 0, kept_spans = 0;
  OddSlot *odd = list.odd.begin();
  for (std::size_t number = 0; number < list.spans.size(); ++number) {
    Span span = list.spans[number];
    const std::uint32_t first = kept_slots;
    for (std::uint32_t k = span.first; k < span.first + span.count; ++k) {
      if (list.slots[k].is_left) continue;
      if (list.slots[k].is_odd) odd++->slot = kept_slots;
      list.slots[kept_slots++] = list.slots[k];
    }
    span.first = first;
    span.count = kept_slots - first;
    if (span.count > 0) list.spans[kept_spans++] = span;
  }
  list.slots.set_size(kept_slots);
  list.spans.set_size(kept_spans);
}

/// Two requests for one symbol may be for different callers, not for the same slot.
bool Planner::check_shared(Problem &problem) {
  if (!finder_.any_shares_name()) return true;
  for (const Span &span : plan_.list.spans) {
    const std::span<const Slot> slots = plan_.list.in(span);
    for (const Slot &slot : slots) {
      if (!finder_.shares_name(slot.redirect)) continue;
      for (const Slot &other : slots) {
        if (&other == &slot || other.where != slot.where) continue;
        problem.symbol = plan_.requests[slot.redirect]->symbol.c_str();
        problem.object = span.path;
        problem.address = span.base + slot.where;
        problem.set(Code::invalid_argument,
                    "two redirects of '%s' in one transaction mean the same slot, at %#lx in %s", problem.symbol,
                    problem.address, span.path);
        return false;
      }
    }
  }
  return true;
}

/// A slot that is not the common case.
bool Planner::plan_special(Object &object, Slot &slot, Problem &problem) {
  const std::uintptr_t base = object.image.low();
  Image::RelocationRef reference = slot.where;
  if (slot.is_plain) {
    object.index.for_each(object.image, plan_.requests[slot.redirect]->name, [&](Image::RelocationRef one) {
      if (object.image.relocation(one).place == base + slot.where) reference = one;
    });
  }
  const Relocation relocation = object.image.relocation(reference);
  slot.is_left = true;
  if (relocation.place % sizeof(std::uintptr_t) != 0) {
    beside(slot.redirect, Beside::unaligned, object);
    return true;
  }
  if (!object.image.is_data(relocation.place)) {
    beside(slot.redirect, Beside::text, object);
    return true;
  }
  if (relocation.place - base > UINT32_MAX) {
    beside(slot.redirect, Beside::far, object);
    return true;
  }
  slot.where = static_cast<std::uint32_t>(relocation.place - base);
  return classify(object, slot, relocation, problem);
}

/// What a slot holds, the long way. The slot is marked as left until it is known to be taken.
bool Planner::classify(Object &object, Slot &slot, const Relocation &relocation, Problem &problem) {
  const std::uint32_t request = slot.redirect;
  const std::uintptr_t value = load_word(relocation.place);
  const Request &asked = *plan_.requests[request];
  const char *version = needed_version(object.image, relocation.symbol);
  if (!asked.version.empty() && (version == nullptr || asked.version != version)) {
    beside(request, Beside::other_version, object);
    return true;
  }
  const std::uintptr_t addend = addend_of(relocation);
  const bool is_weak = symbol_binding(object.image.symbol(relocation.symbol)) == STB_WEAK;
  if (value == 0 && is_weak) {
    beside(request, Beside::unprovided, object);
    return true;
  }

  if (static_cast<std::uintptr_t>(static_cast<std::intptr_t>(static_cast<std::int16_t>(addend))) != addend) {
    beside(request, Beside::addend, object);
    return true;
  }

  Definition definition;
  bool is_lazy = false;
  Beside how = Beside::kCount;
  const std::vector<Layer> &layers = layers_.over(asked.symbol);
  for (std::size_t k = layers.size(); k-- > 0 && definition.state == Definition::State::none;) {
    const Slot *below = layers[k].slot_at(relocation.place);
    if (below == nullptr || layers[k].change->after(*below) != value) continue;
    definition = resolver_.at(asked.name, layers[k]->function);
    if (definition.state != Definition::State::found)
      definition = {Definition::State::found, objects_.at(layers[k]->function), nullptr, nullptr, layers[k]->function};
    how = Beside::layered;
  }
  if (definition.state == Definition::State::none) definition = resolver_.at(asked.name, value - addend);
  if (definition.state == Definition::State::none) {
    const Object *holder = objects_.at(value);
    if (relocation.kind != arch::RelocKind::jump_slot && holder != nullptr && holder->is_executable &&
        holder->is_readable && canonical_plt_address(holder->image, asked.name) == value - addend &&
        program_is_chosen(request)) {
      // The value that `&function` has everywhere in a program that is not position independent. The call goes on through
      // the program's slot, which is redirected; and pointers go on comparing equal.
      beside(request, Beside::canonical, object);
      return true;
    }
    is_lazy = relocation.kind == arch::RelocKind::jump_slot && holder == &object && object.image.is_code(value);
    definition = search(object, request, version);
    if (!is_lazy && definition.address != value - addend) how = Beside::foreign;
  }

  if (definition.state != Definition::State::found) {
    if (definition.state == Definition::State::none && is_weak) {
      beside(request, Beside::unprovided, object);
      return true;
    }
    problem.object = object.path;
    problem.symbol = asked.symbol.c_str();
    problem.address = relocation.place;
    if (definition.state == Definition::State::ambiguous)
      problem.set(
          Code::original_unresolved,
          "cannot tell which '%s' %s calls: its slot is not bound yet, and both %s and %s define it (leave this "
          "caller out, or name a provider)",
          asked.symbol.c_str(), object.path, definition.provider->path, definition.other->path);
    else
      problem.set(Code::original_unresolved,
                  "%s imports '%s%s%s', its slot holds %#lx, and no loaded object defines it", object.path,
                  asked.symbol.c_str(), version != nullptr ? "@" : "", version != nullptr ? version : "", value);
    return false;
  }
  if (!asked.provider.empty() &&
      (definition.provider == nullptr || !definition.provider->matches(asked.provider.c_str()))) {
    beside(request, Beside::other_provider, object);
    return true;
  }
  if (!take_function(request, object, definition, problem)) return false;
  if (asked.reach == Reach::entry) {  // it was only to be seen which function this leads to
    if (how == Beside::layered) beside(request, Beside::beneath, object);
    return true;
  }
  if (how != Beside::kCount) beside(request, how, object);
  if (is_lazy) beside(request, Beside::lazy, object);
  slot.is_lazy = is_lazy;
  slot.is_left = false;
  if (value == plan_.redirects[request].function && addend == 0) return true;
  slot.is_odd = true;
  if (plan_.list.odd.push_back({value, plan_.list.number(slot), static_cast<std::int16_t>(addend)})) return true;
  problem.set(Code::out_of_memory, "no memory for a plan of %zu redirects", plan_.requests.size());
  return false;
}

/// Asks the resolver, and remembers the answer for callers that it holds for too: all of them where only one object defines
/// the name, those that came with the program otherwise.
Definition Planner::search(Object &object, std::uint32_t request, const char *version) {
  State &state = states_[request];
  const bool is_startup =
      static_cast<std::size_t>(&object - objects_.in_load_order().data()) < objects_.startup_count() &&
      !object.image.binds_symbolically();
  const auto same = [](const char *a, const char *b) {
    return a == b || (a != nullptr && b != nullptr && std::strcmp(a, b) == 0);
  };
  if (state.has_resolved && (is_startup || state.is_the_only_one) && same(state.resolved_version, version))
    return state.resolved;
  const SymbolName &name = plan_.requests[request]->name;
  Definition found = resolver_.only_one(name, version);
  const bool is_the_only_one = found.state == Definition::State::found;
  if (!is_the_only_one) found = resolver_.search(object, name, version);
  if (is_startup || is_the_only_one) {
    state.resolved = found;
    state.resolved_version = version;
    state.is_the_only_one = is_the_only_one;
    state.has_resolved = true;
  }
  return found;
}

/// The first function found is the one that the redirect is about; every further slot must lead to the same.
bool Planner::take_function(std::uint32_t request, const Object &caller, const Definition &definition,
                            Problem &problem) {
  const Request &asked = *plan_.requests[request];
  PlannedRedirect &redirect = plan_.redirects[request];
  if (redirect.function == definition.address) return true;
  const char *provider = definition.provider != nullptr ? definition.provider->path : "";
  problem.object = provider;
  problem.symbol = asked.symbol.c_str();
  problem.address = definition.address;
  if (redirect.function != 0) {
    problem.set(
        Code::several_functions,
        "'%s' is not one function here: %s calls the one at %#lx in %s, other callers the one at %#lx in %s (name a "
        "version, a provider or the callers)",
        asked.symbol.c_str(), caller.path, definition.address, provider, redirect.function, redirect.provider);
    return false;
  }
  const bool is_data = definition.symbol != nullptr && is_data_type(symbol_type(*definition.symbol));
  const bool is_code = definition.provider == nullptr || definition.symbol == nullptr ||
                       symbol_type(*definition.symbol) == STT_GNU_IFUNC ||
                       definition.provider->image.is_code(definition.address);
  if (is_data || !is_code) {
    problem.set(
        Code::not_a_function, "'%s' in %s is %s, not a function", asked.symbol.c_str(), provider,
        definition.symbol != nullptr && symbol_type(*definition.symbol) == STT_TLS ? "thread-local storage" : "data");
    return false;
  }
  problem.object = "";
  problem.symbol = "";
  problem.address = 0;
  redirect.function = definition.address;
  redirect.provider = provider;
  if (states_[request].takes_any) common_[request].function = definition.address;
  return check_replacement(request, problem);
}

bool Planner::check_replacement(std::uint32_t request, Problem &problem) {
  const Request &asked = *plan_.requests[request];
  if (asked.replacement == 0) return true;
  const Object *holder = objects_.at(asked.replacement);
  const char *why = nullptr;
  if (asked.replacement == plan_.redirects[request].function) {
    why = "is the function itself";
  } else if (holder != nullptr && holder->is_readable &&
             canonical_plt_address(holder->image, asked.name) == asked.replacement) {
    why = "is the program's PLT entry of the function itself";
  } else if (holder != nullptr && holder->is_own && !asked.is_own) {
    why = "lies inside shunt";
  } else if (holder != nullptr && !holder->image.is_code(asked.replacement)) {
    why = "is data, not code";
  } else if (holder == nullptr) {
    Protections protections;
    Mapping mapping;
    if (protections.at(asked.replacement, mapping) != 0 || (mapping.protection & PROT_EXEC) == 0)
      why = "lies in no loaded object and in no executable memory";
  }
  if (why == nullptr) return true;
  problem.symbol = asked.symbol.c_str();
  problem.address = asked.replacement;
  problem.object = holder != nullptr ? holder->path : "";
  problem.set(Code::bad_replacement, "the replacement of '%s' at %#lx %s%s%s", asked.symbol.c_str(), asked.replacement,
              why, holder != nullptr ? ", in " : "", holder != nullptr ? holder->path : "");
  return false;
}

void Planner::beside(std::uint32_t request, Beside what, const Object &object) {
  BesideCount &count = plan_.redirects[request].beside[static_cast<std::size_t>(what)];
  if (count.count++ == 0) count.example = object.path;
}

bool Planner::program_is_chosen(std::uint32_t request) {
  return plan_.requests[request]->filter->chooses(objects_.in_load_order()[0]);
}

void Planner::explain_nothing(std::uint32_t request, Problem &problem) {
  const Request &asked = *plan_.requests[request];
  const PlannedRedirect &redirect = plan_.redirects[request];
  const char *symbol = asked.symbol.c_str();
  const auto count = [&](Beside what) { return redirect.beside[static_cast<std::size_t>(what)]; };
  problem.symbol = symbol;
  if (count(Beside::other_provider).count + count(Beside::other_version).count > 0) {
    const BesideCount example =
        count(Beside::other_provider).count > 0 ? count(Beside::other_provider) : count(Beside::other_version);
    problem.object = example.example;
    return problem.set(Code::no_provider,
                       "'%s' is imported, by %s for one, but not from provider '%s' with version '%s'", symbol,
                       example.example, asked.provider.empty() ? "*" : asked.provider.c_str(),
                       asked.version.empty() ? "*" : asked.version.c_str());
  }
  if (!finder_.chooses_any(request))
    return problem.set(Code::no_caller,
                       "no loaded object matches the callers that were asked for, so nothing calls '%s' for them",
                       symbol);
  const auto state_of = [&](Beside what, const char *text) {
    problem.object = count(what).example;
    problem.set(Code::no_caller, "'%s' has no slot that can be redirected: that of %s %s", symbol, problem.object,
                text);
  };
  if (count(Beside::unprovided).count > 0) return state_of(Beside::unprovided, "is a weak import that nobody provides");
  if (count(Beside::unaligned).count > 0) return state_of(Beside::unaligned, "is not aligned to a word");
  if (count(Beside::addend).count > 0) return state_of(Beside::addend, "points behind the function, not to it");
  if (count(Beside::far).count > 0)
    return state_of(Beside::far, "lies more than 4 GiB behind the beginning of its object");
  if (count(Beside::text).count > 0) return state_of(Beside::text, "lies in code (a text relocation)");

  const Object *imports = nullptr, *defines = nullptr;
  for (Object &object : objects_.in_load_order()) {
    if (object.is_own || !resolver_.is_searched(object) || !objects_.have_index(object, problem)) {
      if (problem) return;
      continue;
    }
    object.index.for_each(object.image, asked.name,
                          [&](Image::RelocationRef) { imports = imports != nullptr ? imports : &object; });
    if (defines == nullptr && find_definition_at(object.image, asked.name, 0) != nullptr) defines = &object;
  }
  if (imports != nullptr) {
    problem.object = imports->path;
    return problem.set(Code::no_caller, "none of the chosen callers imports '%s'; %s does", symbol, imports->path);
  }
  if (defines != nullptr) {
    problem.object = defines->path;
    if (is_data_type(symbol_type(*find_definition_at(defines->image, asked.name, 0))))
      return problem.set(Code::not_a_function, "'%s' in %s is data, not a function", symbol, defines->path);
    return problem.set(Code::no_caller, "'%s' is defined by %s, but no loaded object calls it through a slot", symbol,
                       defines->path);
  }
  if (asked.reach == Reach::slots || asked.is_for_some())
    return problem.set(Code::unknown_symbol, "no loaded object imports or defines '%s'", symbol);
  problem.set(
      Code::unknown_symbol,
      "no loaded object imports or defines '%s': looked for in dynamic symbols, in .symtab of the objects' files "
      "and in their debug files where there are any",
      symbol);
}

}  // namespace shunt::core
