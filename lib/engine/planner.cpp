#include "engine/planner.hpp"

#include <sys/mman.h>

#include <algorithm>

namespace shunt::core {
namespace {

/// The pointer-sized word at `place` lies in data of the object that may be written (RELRO included).
bool is_in_data(const Object &object, std::uintptr_t place) {
  const Elf64_Phdr *segment = object.image.segment_at(place, sizeof(std::uintptr_t));
  return segment != nullptr && (segment->p_flags & (PF_R | PF_W)) == (PF_R | PF_W);
}

bool is_data_type(unsigned type) { return type == STT_OBJECT || type == STT_TLS || type == STT_COMMON; }

}  // namespace

Planner::Planner(ObjectTable &objects, const Layers &layers, std::span<const std::uintptr_t> patches, Plan &plan)
    : objects_(objects), resolver_(objects, patches), layers_(layers), plan_(plan), states_(plan.requests.size()) {
  plan_.redirects.resize(plan_.requests.size());
  for (std::size_t k = 0; k < plan_.requests.size(); ++k) {
    const Request &request = *plan_.requests[k];
    auto found = std::find(filters_.begin(), filters_.end(), request.filter.get());
    states_[k].filter = static_cast<std::uint32_t>(found - filters_.begin());
    if (found == filters_.end()) filters_.push_back(request.filter.get());
    for (std::size_t other = 0; other < k; ++other)
      if (plan_.requests[other]->name.index_hash == request.name.index_hash && plan_.requests[other]->symbol == request.symbol)
        states_[k].shares_symbol = true;
    states_[k].takes_any =
        request.version.empty() && request.provider.empty() && layers_.over(request.symbol).empty();
  }
  chosen_.resize(filters_.size());
  seen_chosen_.resize(filters_.size());
}

void Planner::run(Problem &problem) {
  for (const std::uint32_t position : objects_.by_address())
    if (!plan_object(objects_[position], problem)) return;
  for (std::uint32_t k = 0; k < plan_.requests.size(); ++k) {
    PlannedRedirect &redirect = plan_.redirects[k];
    if (redirect.slots == 0 && !plan_.requests[k]->is_optional) return explain_nothing(k, problem);
    plan_.written_slots += redirect.slots;
    redirect.original = redirect.function;
    const Object *provider = redirect.slots > 0 ? objects_.at(redirect.function) : nullptr;
    for (const Run &run : plan_.runs) {
      if (provider == nullptr || run.object != provider->id) continue;
      for (const Slot &slot : std::span(plan_.slots.data() + run.first, run.count))
        redirect.provider_calls_through_slots = redirect.provider_calls_through_slots || slot.redirect == k;
    }
  }
  plan_.generation = objects_.generation();
}

bool Planner::plan_object(Object &object, Problem &problem) {
  bool any_chosen = false, any_patch = false;
  for (std::size_t f = 0; f < filters_.size(); ++f) {
    chosen_[f] = filters_[f]->chooses(object) ? 1 : 0;
    seen_chosen_[f] |= chosen_[f];
    any_chosen = any_chosen || chosen_[f] != 0;
    any_patch = any_patch || filters_[f]->is_patch(object);
  }
  if (!any_chosen && !any_patch) return true;
  if (!objects_.have_index(object, problem)) {
    if (problem) return false;
    for (const CallerFilter *filter : filters_) {
      if (!filter->names(object)) continue;
      problem.object = object.path;
      problem.set(Code::image_malformed, "%s was asked for as a caller and cannot be read: %s", object.path,
                  object.unreadable);
      return false;
    }
    if (plan_.unread.push_back({object.path, object.unreadable})) return true;
    problem.set(Code::out_of_memory, "no memory for the plan");
    return false;
  }
  if (object.index.count == 0) return true;

  const std::size_t first = plan_.slots.size();
  bool sound = true;
  for (std::uint32_t k = 0; k < plan_.requests.size() && sound; ++k) {
    const Request &request = *plan_.requests[k];
    if (chosen_[states_[k].filter] != 0) {
      object.index.for_each(object.image, request.name, [&](const Relocation &relocation) {
        sound = sound && plan_slot(object, k, relocation, problem);
      });
    } else if (any_patch && request.filter->is_patch(object)) {
      object.index.for_each(object.image, request.name, [&](const Relocation &relocation) {
        sound = sound && plan_self_slot(object, k, relocation, problem);
      });
    }
  }
  if (!sound) return false;
  if (plan_.slots.size() == first) return true;
  Run run = {object.id, object.path, UINTPTR_MAX, 0, static_cast<std::uint32_t>(first),
             static_cast<std::uint32_t>(plan_.slots.size() - first)};
  for (const Slot &slot : std::span(plan_.slots.data() + first, run.count)) {
    run.low = std::min(run.low, slot.address);
    run.high = std::max(run.high, slot.address);
  }
  if (plan_.runs.push_back(run)) return true;
  problem.set(Code::out_of_memory, "no memory for the plan");
  return false;
}

bool Planner::plan_slot(Object &object, std::uint32_t request, const Relocation &relocation, Problem &problem) {
  if (relocation.place % sizeof(std::uintptr_t) != 0) {
    beside(request, Beside::unaligned, object);
    return true;
  }
  if (!is_in_data(object, relocation.place)) {
    beside(request, Beside::text, object);
    return true;
  }
  const std::uintptr_t value = load_word(relocation.place);
  const auto addend = static_cast<std::uintptr_t>(relocation.kind == arch::RelocKind::absolute ? relocation.addend : 0);
  const std::uintptr_t function = plan_.redirects[request].function;
  if (function == 0 || value != function + addend || !states_[request].takes_any)
    return classify(object, request, relocation, value, problem);
  return push(request, relocation, value, plan_.requests[request]->replacement + addend, false, false, problem);
}

bool Planner::plan_self_slot(const Object &object, std::uint32_t request, const Relocation &relocation, Problem &problem) {
  if (relocation.place % sizeof(std::uintptr_t) != 0 || !is_in_data(object, relocation.place)) return true;
  // Where it is to lead is known only when all slots are: commit fills it in.
  return push(request, relocation, load_word(relocation.place), 0, false, true, problem);
}

bool Planner::classify(Object &object, std::uint32_t request, const Relocation &relocation, std::uintptr_t value,
                       Problem &problem) {
  const Request &asked = *plan_.requests[request];
  const char *version = needed_version(object.image, relocation.symbol);
  if (!asked.version.empty() && (version == nullptr || asked.version != version)) {
    beside(request, Beside::other_version, object);
    return true;
  }
  const auto addend = static_cast<std::uintptr_t>(relocation.kind == arch::RelocKind::absolute ? relocation.addend : 0);
  const std::uintptr_t after = asked.replacement + addend;
  const bool is_weak = symbol_binding(object.image.symbol(relocation.symbol)) == STB_WEAK;
  if (value == 0 && is_weak) {
    beside(request, Beside::unprovided, object);
    return true;
  }

  Definition definition;
  bool is_lazy = false;
  Beside how = Beside::kCount;
  const std::vector<Layer> &layers = layers_.over(asked.symbol);
  for (std::size_t k = layers.size(); k-- > 0 && definition.state == Definition::State::none;) {
    const Slot *slot = layers[k].change->slot_at(relocation.place);
    if (slot == nullptr || slot->after != value) continue;
    definition = resolver_.at(asked.name, (*layers[k]).function);
    if (definition.state != Definition::State::found)
      definition = {Definition::State::found, objects_.at((*layers[k]).function), nullptr, nullptr, (*layers[k]).function};
    how = Beside::layered;
  }
  if (definition.state == Definition::State::none) definition = resolver_.at(asked.name, value - addend);
  if (definition.state == Definition::State::none) {
    const Object *holder = objects_.at(value);
    if (relocation.kind != arch::RelocKind::jump_slot && holder != nullptr && holder->is_executable &&
        holder->is_readable && canonical_plt_address(holder->image, asked.name) == value - addend && program_is_chosen(request)) {
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
      problem.set(Code::original_unresolved,
                  "cannot tell which '%s' %s calls: its slot is not bound yet, and both %s and %s define it (leave this "
                  "caller out, or name a provider)",
                  asked.symbol.c_str(), object.path, definition.provider->path, definition.other->path);
    else
      problem.set(Code::original_unresolved, "%s imports '%s%s%s', its slot holds %#lx, and no loaded object defines it",
                  object.path, asked.symbol.c_str(), version != nullptr ? "@" : "", version != nullptr ? version : "", value);
    return false;
  }
  if (!asked.provider.empty() && (definition.provider == nullptr || !definition.provider->matches(asked.provider.c_str()))) {
    beside(request, Beside::other_provider, object);
    return true;
  }
  if (!take_function(request, object, definition, problem)) return false;
  if (how != Beside::kCount) beside(request, how, object);
  if (is_lazy) beside(request, Beside::lazy, object);
  return push(request, relocation, value, after, is_lazy, false, problem);
}

Definition Planner::search(Object &object, std::uint32_t request, const char *version) {
  State &state = states_[request];
  const bool is_startup =
      static_cast<std::size_t>(&object - objects_.in_load_order().data()) < objects_.startup_count() &&
      !object.image.binds_symbolically();
  const auto same = [](const char *a, const char *b) { return a == b || (a != nullptr && b != nullptr && std::strcmp(a, b) == 0); };
  if (is_startup && state.has_resolved && same(state.resolved_version, version)) return state.resolved;
  const Definition found = resolver_.search(object, plan_.requests[request]->name, version);
  if (is_startup) {
    state.resolved = found;
    state.resolved_version = version;
    state.has_resolved = true;
  }
  return found;
}

/// The first function found is the one that the redirect is about; every further slot must lead to the same.
bool Planner::take_function(std::uint32_t request, const Object &caller, const Definition &definition, Problem &problem) {
  const Request &asked = *plan_.requests[request];
  PlannedRedirect &redirect = plan_.redirects[request];
  if (redirect.function == definition.address) return true;
  const char *provider = definition.provider != nullptr ? definition.provider->path : "";
  problem.object = provider;
  problem.symbol = asked.symbol.c_str();
  problem.address = definition.address;
  if (redirect.function != 0) {
    problem.set(Code::several_functions,
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
    problem.set(Code::not_a_function, "'%s' in %s is %s, not a function", asked.symbol.c_str(), provider,
                definition.symbol != nullptr && symbol_type(*definition.symbol) == STT_TLS ? "thread-local storage" : "data");
    return false;
  }
  problem.object = "";
  problem.symbol = "";
  problem.address = 0;
  redirect.function = definition.address;
  redirect.provider = provider;
  return check_replacement(request, problem);
}

bool Planner::check_replacement(std::uint32_t request, Problem &problem) {
  const Request &asked = *plan_.requests[request];
  const Object *holder = objects_.at(asked.replacement);
  const char *why = nullptr;
  if (asked.replacement == plan_.redirects[request].function) {
    why = "is the function itself";
  } else if (holder != nullptr && holder->is_readable && canonical_plt_address(holder->image, asked.name) == asked.replacement) {
    why = "is the program's PLT entry of the function itself";
  } else if (holder != nullptr && holder->is_own) {
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
  problem.set(Code::bad_replacement, "the replacement of '%s' at %#lx %s%s%s", asked.symbol.c_str(), asked.replacement, why,
              holder != nullptr ? ", in " : "", holder != nullptr ? holder->path : "");
  return false;
}

bool Planner::push(std::uint32_t request, const Relocation &relocation, std::uintptr_t value, std::uintptr_t after,
                   bool is_lazy, bool is_self, Problem &problem) {
  if (states_[request].shares_symbol) {
    for (const Slot &slot : plan_.slots) {
      if (slot.address != relocation.place || is_self) continue;
      problem.symbol = plan_.requests[request]->symbol.c_str();
      problem.address = slot.address;
      problem.set(Code::invalid_argument, "two redirects of '%s' in one transaction mean the same slot at %#lx", problem.symbol,
                  slot.address);
      return false;
    }
  }
  if (!plan_.slots.push_back({relocation.place, value, after, request, relocation.kind, is_lazy, is_self})) {
    problem.set(Code::out_of_memory, "no memory for the plan");
    return false;
  }
  PlannedRedirect &redirect = plan_.redirects[request];
  if (is_self) {
    ++redirect.self_slots;
    return true;
  }
  ++redirect.slots;
  State &state = states_[request];
  const auto run = static_cast<std::uint32_t>(plan_.runs.size());
  if (state.last_run != run) {
    state.last_run = run;
    ++redirect.callers;
  }
  return true;
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
    return problem.set(Code::no_provider, "'%s' is imported, by %s for one, but not from provider '%s' with version '%s'",
                       symbol, example.example, asked.provider.empty() ? "*" : asked.provider.c_str(),
                       asked.version.empty() ? "*" : asked.version.c_str());
  }
  if (seen_chosen_[states_[request].filter] == 0)
    return problem.set(Code::no_caller, "no loaded object matches the callers that were asked for, so nothing calls '%s' for them",
                       symbol);
  const auto state_of = [&](Beside what, const char *text) {
    problem.object = count(what).example;
    problem.set(Code::no_caller, "'%s' has no slot that can be redirected: that of %s %s", symbol, problem.object, text);
  };
  if (count(Beside::unprovided).count > 0) return state_of(Beside::unprovided, "is a weak import that nobody provides");
  if (count(Beside::unaligned).count > 0) return state_of(Beside::unaligned, "is not aligned to a word");
  if (count(Beside::text).count > 0) return state_of(Beside::text, "lies in code (a text relocation)");

  const Object *imports = nullptr, *defines = nullptr;
  for (Object &object : objects_.in_load_order()) {
    if (object.is_own || asked.filter->is_patch(object) || !objects_.have_index(object, problem)) {
      if (problem) return;
      continue;
    }
    object.index.for_each(object.image, asked.name, [&](const Relocation &) { imports = imports != nullptr ? imports : &object; });
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
  problem.set(Code::unknown_symbol, "no loaded object imports or defines '%s'", symbol);
}

}  // namespace shunt::core
