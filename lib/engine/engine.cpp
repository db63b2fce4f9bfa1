#include "engine/engine.hpp"

#include <pthread.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "arch/native_code.hpp"
#include "base/log.hpp"
#include "engine/entry_planner.hpp"
#include "engine/writer.hpp"
#include "objects/list_lock.hpp"
#include "objects/loader_watch.hpp"

namespace shunt::core {
// ---- one at a time ---------------------------------------------------------------------------------------------------

Engine &Engine::instance() {
  static auto *const engine = new Engine;
  return *engine;
}

/// A fork waits for a transaction to end, so that the child finds it whole or not begun, and the engine free. Where the
/// engine itself ran into a replacement that forks, this thread holds the engine already, and goes on holding it.
/// The log is asked for while the engine is held, so its lock is taken after: handlers before a fork run in reverse order.
Engine::Engine() {
  hold_log_at_fork();
  ListLock::find();
  pthread_atfork(
      [] {
        instance().mutex_.before_fork();
        Question::before_fork();
        ListLock::before_fork();
      },
      [] {
        ListLock::after_fork_in_parent();
        instance().mutex_.after_fork_in_parent();
      },
      [] {
        ListLock::after_fork_in_child();
        instance().mutex_.after_fork_in_child();
        Question::after_fork_in_child();
        LoaderWatch::after_fork_in_child();
        DlsymAnswers::after_fork_in_child();
      });
}

Problem Engine::Guard::problem() {
  Problem problem;
  problem.set(Code::busy, "shunt was called from inside shunt, by a replacement that it ran into on this thread");
  return problem;
}

void Engine::add_patch(LoadedPatch patch) {
  const Guard guard(*this);
  if (!guard) return;
  patches_.push_back(std::move(patch));
  renew_answers();
}

void Engine::place_patch(const std::string &linked, std::uintptr_t inside) {
  const Guard guard(*this);
  if (!guard) return;
  const auto patch =
      std::find_if(patches_.begin(), patches_.end(), [&](const LoadedPatch &one) { return one.linked == linked; });
  if (patch == patches_.end()) return;
  patch->inside = inside;
  Problem ignored;  // where the objects cannot be listed now, the patch keeps the name that the dynamic linker gave it
  objects_.while_locked(ignored, [&](Problem &) { objects_.call(inside, patch->file.c_str()); });
  if (KnownCode *const known = codes_.around(inside)) known->untouchable = "belongs to a patch";
  renew_answers();
}

/// The eldest of that name: once it is unmapped, the next one may be called the same.
void Engine::remove_patch(const std::string &linked) {
  const Guard guard(*this);
  if (!guard) return;
  const auto patch =
      std::find_if(patches_.begin(), patches_.end(), [&](const LoadedPatch &one) { return one.linked == linked; });
  if (patch != patches_.end()) patches_.erase(patch);
  renew_answers();
}

Engine::Ended Engine::end_life(CodeLife &life, std::uintptr_t begin, std::uintptr_t end,
                               const std::function<bool()> &is_free, std::string &symbol) {
  const Guard guard(*this);
  if (!guard) return Ended::busy;
  for (const Change *change : layers_.changes()) {
    for (const ChangeRedirect &redirect : change->redirects) {
      if (!redirect.is_active() || redirect.replacement - begin >= end - begin) continue;
      symbol = redirect.request->symbol;
      return Ended::redirected;
    }
  }
  if (!is_free()) return Ended::refused;
  life.is_loaded = false;
  return Ended::yes;
}

// ---- plan ------------------------------------------------------------------------------------------------------------

namespace {

/// Leaves no address of code behind on the stack: whoever stands there next would look as if it returned to it.
class StackCleaner {
 public:
  /// `needed`: set while this lives, where threads were asked.
  [[gnu::always_inline]] explicit StackCleaner(bool &needed)
      : needed_(needed), frame_(reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0))) {}
  StackCleaner(const StackCleaner &) = delete;
  StackCleaner &operator=(const StackCleaner &) = delete;
  ~StackCleaner() {
    if (__atomic_exchange_n(&needed_, false, __ATOMIC_RELAXED)) clean();
  }
  [[nodiscard]] std::uintptr_t frame() const { return frame_; }

 private:
  [[gnu::noinline]] static void clean() {
    volatile std::uintptr_t words[1024];
    for (volatile std::uintptr_t &word : words) word = 0;
  }
  bool &needed_;
  const std::uintptr_t frame_;
};

constexpr const char *kUnloading = "objects come and go faster than they can be looked at";
constexpr int kMostRounds = 16;

/// Runs `work(outside)` with the engine held, again when it turned out to need what is outside. What was kept from being
/// unloaded is let go last, without the engine.
template <class Value, class Held, class Work>
Result<Value> with_outside(Held hold, Work work) {
  Outside outside;
  for (int round = 0; round < kMostRounds; ++round) {
    {
      const auto guard = hold();
      if (!guard)
        return Error{Code::busy,
                     "shunt was called from inside shunt, by a replacement that it ran into on this thread"};
      Result<Value> done = work(outside);
      if (!outside.is_wanting()) return done;
    }
    outside.provide();
  }
  return make_error(Code::plan_stale, "%s", kUnloading);
}

}  // namespace

Result<std::unique_ptr<Plan>> Engine::plan(const Requests &requests) {
  using Made = Result<std::unique_ptr<Plan>>;
  return with_outside<std::unique_ptr<Plan>>([this] { return Guard(*this); },
                                             [&](Outside &outside) -> Made {
                                               auto plan = std::make_unique<Plan>();
                                               plan->requests = requests;
                                               Problem problem;
                                               settle();
                                               make_plan(*plan, false, outside, problem);
                                               codes_.drop_names();
                                               if (!problem && !outside.is_wanting())
                                                 plan_lookups(*plan, outside, problem);
                                               if (problem) return problem.to_error();
                                               finish_plan(*plan);
                                               return plan;
                                             });
}

void Engine::make_plan(Plan &plan, bool trusts, Outside &outside, Problem &problem) {
  Planner planner(objects_, layers_, names_, last_search_, patches_, trusts, plan);
  objects_.while_locked(problem, [&](Problem &inner) {
    adopt_new();
    planner.run(inner);
  });
  if (problem) return;
  EntryPlanner(objects_, codes_, entries_, patches_, outside, plan).run(problem);
  if (problem || outside.is_wanting()) return;
  const auto has_no_slot = [](const PlannedRedirect &redirect) { return redirect.slots == 0; };
  if (std::none_of(plan.redirects.begin(), plan.redirects.end(), has_no_slot)) return;
  objects_.while_locked(problem, [&](Problem &inner) {
    for (std::uint32_t k = 0; k < plan.redirects.size() && !inner; ++k) {
      if (plan.redirects[k].slots > 0 || plan.redirects[k].stands_for_dlsym) continue;
      if (plan.entry_of(k) != nullptr)
        planner.check_replacement(k, inner);
      else if (!plan.requests[k]->is_optional)
        planner.explain_nothing(k, inner);
    }
  });
}

/// What needs no look at the objects: originals, given the layers that stand.
void Engine::finish_plan(Plan &plan) {
  for (std::uint32_t k = 0; k < plan.requests.size(); ++k) {
    PlannedRedirect &redirect = plan.redirects[k];
    const std::string &symbol = plan.requests[k]->symbol;
    const std::vector<Layer> &layers = layers_.over(symbol);
    redirect.layers_below = static_cast<std::uint32_t>(layers.size());
    if (plan.does(k) && (!layers.empty() || layers_.has_entries()))
      redirect.original = layers_.original_of(
          {UINT64_MAX, *plan.requests[k], redirect.function, plan.list, k, plan.entry_of(k) != nullptr});
  }
}

// ---- commit ----------------------------------------------------------------------------------------------------------

[[gnu::noinline]] Result<std::unique_ptr<Change>> Engine::apply(const Requests &requests) {
  if (DlsymAnswers::are_asked_for(requests)) DlsymAnswers::prepare();
  const StackCleaner cleaner(left_addresses_);
  return with_outside<std::unique_ptr<Change>>([this] { return Guard(*this); },
                                               [&](Outside &outside) {
                                                 own_sp_ = cleaner.frame();
                                                 settle();
                                                 auto applied = apply_held(requests, outside);
                                                 codes_.drop_names();
                                                 return applied;
                                               });
}

Result<std::unique_ptr<Change>> Engine::apply_held(const Requests &requests, Outside &outside) {
  bool trusts = true;
  for (int round = 0;; ++round) {
    Plan plan;
    plan.requests = requests;
    Problem problem;
    make_plan(plan, trusts, outside, problem);
    if (problem || outside.is_wanting()) return problem.to_error();
    if (plan.is_empty()) return make_error(Code::patch_matches_nothing, "nothing to redirect");
    auto change = std::make_unique<Change>();
    std::swap(change->list, plan.list);
    change->self_slots.swap(plan.self_slots);
    auto committed = commit_answering(std::move(change), plan, outside);
    if (committed) return committed;
    // Somebody has changed a slot since the last plan: what is in its place is found out by reading. Or an object was unloaded
    // between the plan and the commit of it.
    const bool is_changed = plan.is_trusted && committed.error().code == Code::slot_changed;
    if (!is_changed && (committed.error().code != Code::plan_stale || round == kMostRounds)) return committed;
    trusts = trusts && !is_changed;
  }
}

[[gnu::noinline]] Result<std::unique_ptr<Change>> Engine::commit(const Plan &plan) {
  if (DlsymAnswers::are_asked_for(plan.requests)) DlsymAnswers::prepare();
  const StackCleaner cleaner(left_addresses_);
  using Made = Result<std::unique_ptr<Change>>;
  return with_outside<std::unique_ptr<Change>>(
      [this] { return Guard(*this); },
      [&](Outside &outside) -> Made {
        own_sp_ = cleaner.frame();
        settle();
        auto change = std::make_unique<Change>();
        if (!change->list.assign(plan.list) ||
            !change->self_slots.assign({plan.self_slots.data(), plan.self_slots.size()}))
          return make_error(Code::out_of_memory, "no memory for a change of %zu slots", plan.list.slots.size());
        auto committed = commit_answering(std::move(change), plan, outside);
        codes_.drop_names();
        return committed;
      });
}

namespace {

/// ", 2 entries", or nothing.
std::string entries_text(std::size_t entries) {
  return entries > 0 ? ", " + std::to_string(entries) + (entries == 1 ? " entry" : " entries") : "";
}

/// One step for each entry, in `steps`, which has room for all.
void add_step(PageVector<EntryStep> &steps, EntryId entry, std::uintptr_t target, bool is_revert) {
  const auto is_same = [entry](const EntryStep &step) { return step.entry == entry; };
  if (std::any_of(steps.begin(), steps.end(), is_same)) return;
  EntryStep step;
  step.entry = entry;
  step.target = target;
  step.is_revert = is_revert;
  static_cast<void>(steps.push_back(step));
}

/// The originals of layers of other changes, as they are from now on; and their patches' own slots. False when one cannot be
/// opened: all are as before then.
bool lead_others(Writer &writer, std::span<const Layers::NewOriginal> others, Problem &problem) {
  for (std::size_t k = 0; k < others.size(); ++k) {
    const Layers::NewOriginal &one = others[k];
    if (writer.lead_self_slots(*one.layer.change, one.layer.redirect, one.original, problem)) continue;
    Problem refused;
    for (std::size_t done = 0; done <= k; ++done)
      writer.lead_self_slots(*others[done].layer.change, others[done].layer.redirect, others[done].before, refused);
    return false;
  }
  return true;
}

void lead_others_back(Writer &writer, std::span<const Layers::NewOriginal> others) {
  Problem refused;
  for (const Layers::NewOriginal &one : others)
    writer.lead_self_slots(*one.layer.change, one.layer.redirect, one.before, refused);
}

}  // namespace

/// `change` has the plan's slots and no more.
Result<std::unique_ptr<Change>> Engine::commit_prepared(std::unique_ptr<Change> change, const Plan &plan,
                                                        Outside &outside) {
  for (const auto &request : plan.requests) {
    if (request->replacement == 0)
      return make_error(Code::wrong_state, "the replacement of '%s' is not loaded: this plan is only to be looked at",
                        request->symbol.c_str());
    if (request->life != nullptr && !request->life->is_loaded)
      return make_error(Code::wrong_state,
                        "the code of the patch that replaces '%s' was unloaded after its revert: load the patch again",
                        request->symbol.c_str());
  }
  std::vector<std::uintptr_t> cells;  // what the users' words held, to be put back on failure
  for (std::uint32_t k = 0; k < plan.requests.size(); ++k) {
    const PlannedRedirect &planned = plan.redirects[k];
    ChangeRedirect &redirect = change->redirects.emplace_back();
    redirect.request = plan.requests[k];
    redirect.function = planned.function;
    redirect.provider = planned.provider;
    redirect.slots = planned.slots;
    redirect.stands_for_dlsym = planned.stands_for_dlsym;
    redirect.replacement = plan.requests[k]->replacement;
    std::uintptr_t *const cell = plan.requests[k]->original_cell;
    cells.push_back(cell != nullptr ? *cell : 0);
  }
  Problem problem;
  if (!prepare_entries(*change, plan, outside, problem)) return problem.to_error();
  change->has_late = plan.has_late;
  change->seen = plan.generation;
  change->objects_below = plan.objects_below;
  if (layers_.changes().empty()) adopted_below_ = plan.objects_below;
  // Taking memory may fail from here on until something is written.
  struct Added {
    Layers &layers;
    Change *change;
    ~Added() {
      if (change != nullptr) layers.remove(*change);
    }
  } added{layers_, change.get()};
  layers_.add(*change);

  // Layers may have come or gone since the plan was made. Where that matters, a slot tells.
  for (std::uint32_t k = 0; k < change->redirects.size(); ++k)
    if (change->redirects[k].is_active())
      change->redirects[k].original = layers_.original_of(Layers::place_of({change.get(), k}));
  for (SelfSlot &slot : change->self_slots) {
    const ChangeRedirect &redirect = change->redirects[slot.redirect];
    slot.after = redirect.is_active() ? redirect.original : slot.before;  // an export that replaces nothing here
  }
  const std::vector<Layers::NewOriginal> others = layers_.originals_with(*change);
  PageVector<EntryStep> steps;
  bool has_memory = steps.reserve(change->entry_count());
  for (const ChangeRedirect &redirect : change->redirects)
    if (redirect.has_entry() && has_memory) add_step(steps, redirect.entry, redirect.replacement, false);
  if (!has_memory) problem.set(Code::out_of_memory, "no memory for the entries of a change");
  // Also where it fails: some may have led there for a moment.
  for (const auto &request : plan.requests)
    if (request->life != nullptr) request->life->uses += 1;
  if (!problem)
    objects_.while_locked(problem, [&](Problem &inner) { write(*change, plan.generation, others, steps, inner); });
  tell_left_open();
  if (problem) {
    for (std::size_t k = 0; k < cells.size(); ++k)
      if (std::uintptr_t *cell = change->redirects[k].request->original_cell) *cell = cells[k];
    return problem.to_error();
  }
  change->is_applied = true;
  added.change = nullptr;
  adopted_below_ = std::min(adopted_below_, plan.objects_below);
  adopted_generation_ = plan.generation;
  settle_if_possible();
  const std::size_t entries = change->entry_count();
  log(SHUNT_LOG_INFO, "applied %zu redirects, %zu slots in %zu objects%s", change->redirects.size(),
      change->list.slots.size(), change->list.spans.size(), entries_text(entries).c_str());
  if (entries > 0) tell_threads(change->threads);
  return change;
}

/// Trampolines for the entries that the plan has chosen; from here on they can be called. An entry that turns out to be impossible
/// only now is left out where there are slots, as in the plan.
bool Engine::prepare_entries(Change &change, const Plan &plan, Outside &outside, Problem &problem) {
  if (plan.entry_count() == 0) return true;
  Unwinder unwinder;
  objects_.while_locked(problem, [&](Problem &) { unwinder = find_unwinder(objects_); });
  entries_.use(unwinder);
  CodeReader reader(objects_, codes_, patches_, outside);
  struct Prepared {
    std::uint32_t redirect;
    EntryId id;
  };
  std::vector<Prepared> prepared;
  for (std::uint32_t k = 0; k < plan.redirects.size() && !problem; ++k) {
    const PlannedEntry *const planned = plan.entry_of(k);
    if (planned == nullptr) continue;
    FunctionDescription description;
    if (!reader.describe(plan.redirects[k].function, planned->object, description, problem)) return false;
    const char *const symbol = entry_names_.intern(plan.requests[k]->symbol.c_str());
    const EntryTarget target = {description.function, description.has_frame ? &description.frame : nullptr,
                                plan.redirects[k].provider, symbol != nullptr ? symbol : ""};
    EntryId id = 0;
    Problem refused;
    if (entries_.prepare(target, id, refused)) {
      prepared.push_back({k, id});
    } else if (plan.requests[k]->reach == Reach::automatic &&
               (plan.redirects[k].slots > 0 || plan.redirects[k].stands_for_dlsym)) {
      log(SHUNT_LOG_WARNING, "%s: its slots only", refused.message);
    } else {
      problem = refused;
    }
  }
  if (problem || !entries_.write_trampolines(problem)) return false;
  for (const Prepared &one : prepared) {
    ChangeRedirect &redirect = change.redirects[one.redirect];
    redirect.entry = one.id;
    redirect.trampoline = entries_.trampoline(one.id);
    redirect.holder = plan.entry_of(one.redirect)->object;
  }
  return true;
}

void Engine::write(Change &change, std::uint64_t generation, const std::vector<Layers::NewOriginal> &others,
                   PageVector<EntryStep> &steps, Problem &problem) {
  Presence presence;
  if (!see_which_are_loaded(change, presence, problem)) return;
  const auto is_gone = [&](const char *path) {
    problem.object = path;
    problem.set(Code::plan_stale,
                "%s, which the plan would change, has been unloaded since the plan was made: plan again", path);
  };
  for (std::size_t k = 0; k < change.list.spans.size() && generation != objects_.generation(); ++k)
    if (!presence.of(k)) return is_gone(change.list.spans[k].path);
  for (const ChangeRedirect &redirect : change.redirects)
    if (redirect.has_entry() && !is_loaded(redirect)) return is_gone(redirect.provider);

  for (std::size_t k = 0; k < change.redirects.size(); ++k)
    if (change.redirects[k].is_active()) change.set_original(k, change.redirects[k].original);
  Writer writer(change, presence);
  __atomic_store_n(&left_addresses_, steps.size() > 0, __ATOMIC_RELAXED);
  if (lead_others(writer, others, problem)) {
    for (const Layers::NewOriginal &one : others) one.layer.change->set_original(one.layer.redirect, one.original);
    const bool is_in = writer.put_in(problem);
    if (!is_in || !entries_.commit({steps.data(), steps.size()}, own_sp_, kThreadWait, change.threads, problem)) {
      if (is_in) writer.undo_put_in();
      for (const Layers::NewOriginal &one : others) one.layer.change->set_original(one.layer.redirect, one.before);
      lead_others_back(writer, others);
    }
  }
  left_open_ = left_open_ || !writer.has_restored_all();
}

/// Only inside while_locked().
bool Engine::is_loaded(const ChangeRedirect &redirect) {
  const Object *const holder = objects_.with_id(redirect.holder);
  return holder != nullptr && holder->contains(redirect.function);
}

/// What the threads noticed of a change of entries.
void Engine::tell_threads(const EntryReport &report) {
  const Passing &passing = report.passing;
  log(SHUNT_LOG_INFO,
      "%u threads: %u asked, %u moved, %u asleep and left so; the longest was held for %llu us; breakpoints stood for "
      "%llu us, and %llu calls came to them",
      passing.threads, passing.asked, passing.moved, passing.asleep,
      static_cast<unsigned long long>(passing.longest_hold_ns / 1000),
      static_cast<unsigned long long>(report.breakpoints_ns / 1000), static_cast<unsigned long long>(report.trapped));
}

void Engine::tell_left_open() {
  if (std::exchange(left_open_, false))
    log(SHUNT_LOG_ERROR, "the kernel refused to give pages of slots back their protection: they stay writable");
}

/// Objects that were unloaded took their slots with them.
bool Engine::see_which_are_loaded(const Change &change, Presence &presence, Problem &problem) {
  const PageVector<Span> &spans = change.list.spans;
  if (change.seen == objects_.generation()) return true;
  if (!presence.flags.assign_zero(spans.size())) {
    problem.set(Code::out_of_memory, "no memory to look at %zu objects", spans.size());
    return false;
  }
  for (std::size_t k = 0; k < spans.size(); ++k) {
    const Object *object = objects_.with_id(spans[k].object);
    presence.flags[k] = object != nullptr && object->contains(spans[k].low) && object->contains(spans[k].high) ? 1 : 0;
  }
  return true;
}

// ---- revert ----------------------------------------------------------------------------------------------------------

namespace {

/// What a revert means for the slots of layers above: found out before anything is written, done after.
struct SlotsAbove {
  struct Lead {  // a slot of a layer above leads back to something else from now on
    Change *change;
    Slot *slot;
    std::uintptr_t before;
    bool is_late;
  };
  std::vector<Lead> leads;

  SlotsAbove(const Layers &all, Change &change) {
    for (std::uint32_t k = 0; k < change.redirects.size(); ++k) {
      const std::vector<Layer> &layers = all.over(change.redirects[k].request->symbol);
      const auto own = std::find_if(layers.begin(), layers.end(),
                                    [&](const Layer &layer) { return layer.change == &change && layer.redirect == k; });
      if (own == layers.end() || own + 1 == layers.end()) continue;
      for (const Span &span : change.list.spans) {
        for (Slot &slot : change.list.in(span)) {
          if (slot.redirect != k) continue;
          for (auto layer = own + 1; layer != layers.end() && !slot.is_covered; ++layer) {
            Slot *upper = layer->slot_at(span.base + slot.where);
            if (upper == nullptr || layer->change->before(*upper) != change.after(slot)) continue;
            leads.push_back({layer->change, upper, change.before(slot), slot.is_late});
            slot.is_covered = true;
          }
        }
      }
    }
  }
};

bool asks_for_answers(const Change &change) {
  return std::any_of(change.redirects.begin(), change.redirects.end(), [](const ChangeRedirect &redirect) {
    return redirect.request->dlsym && !redirect.request->is_own;
  });
}

}  // namespace

[[gnu::noinline]] Result<Done> Engine::revert(Change &change) {
  const StackCleaner cleaner(left_addresses_);
  const Guard guard(*this);
  if (!guard) return Guard::problem().to_error();
  own_sp_ = cleaner.frame();
  if (!change.is_applied) return make_error(Code::wrong_state, "this change has been reverted already");
  return asks_for_answers(change) ? revert_answering(change) : revert_held(change);
}

Result<Done> Engine::revert_held(Change &change) {
  settle();
  struct Uncovered {
    Change &change;
    ~Uncovered() {
      for (Slot &slot : change.list.slots) slot.is_covered = false;
    }
  } const uncovered{change};
  const SlotsAbove above(layers_, change);
  const std::vector<Layers::NewOriginal> others = layers_.originals_without(change);
  PageVector<EntryStep> steps;
  if (!steps.reserve(change.entry_count()))
    return make_error(Code::out_of_memory, "no memory for the entries of a change");
  for (const ChangeRedirect &redirect : change.redirects) {
    if (!redirect.has_entry()) continue;
    const Layer next = layers_.entry_over(redirect.function, &change);
    add_step(steps, redirect.entry, next.change != nullptr ? next->replacement : 0, true);
  }
  Problem problem;
  objects_.while_locked(problem, [&](Problem &inner) { take_out(change, others, steps, inner); });
  tell_left_open();
  if (problem) return problem.to_error();
  for (const Layers::NewOriginal &one : others) one.layer.change->set_original(one.layer.redirect, one.original);
  for (const SlotsAbove::Lead &one : above.leads) {
    one.change->list.odd_of(*one.slot).before = one.before;  // it led to a replacement, so it is odd
    // A thread may still be inside the lazy binding of the slot: from now on settle() looks after it for the layer above.
    one.slot->is_late = one.slot->is_late || one.is_late;
    one.change->has_late = one.change->has_late || one.is_late;
  }
  layers_.remove(change);
  change.is_applied = false;
  for (const ChangeRedirect &redirect : change.redirects)
    if ((change.conflicts > 0 || redirect.request->dlsym) && redirect.request->life != nullptr)
      redirect.request->life->may_be_called_by_others = true;
  log(change.conflicts > 0 ? SHUNT_LOG_WARNING : SHUNT_LOG_INFO,
      "reverted %zu redirects, %zu slots%s; %zu were changed by others and left alone", change.redirects.size(),
      change.list.slots.size(), entries_text(change.entry_count()).c_str(), change.conflicts);
  return Done{};
}

/// Inside while_locked(). All or nothing.
void Engine::take_out(Change &change, const std::vector<Layers::NewOriginal> &others, PageVector<EntryStep> &steps,
                      Problem &problem) {
  Presence presence;
  if (!see_which_are_loaded(change, presence, problem)) return;
  const auto is_gone = [&](const EntryStep &step) {
    return std::any_of(change.redirects.begin(), change.redirects.end(), [&](const ChangeRedirect &redirect) {
      return redirect.has_entry() && redirect.entry == step.entry && !is_loaded(redirect);
    });
  };
  steps.set_size(static_cast<std::size_t>(std::remove_if(steps.begin(), steps.end(), is_gone) - steps.begin()));

  Writer writer(change, presence);
  __atomic_store_n(&left_addresses_, steps.size() > 0, __ATOMIC_RELAXED);
  std::size_t conflicts = 0;
  if (lead_others(writer, others, problem)) {
    const bool is_out = writer.take_out(conflicts, problem);
    EntryReport report;
    if (is_out && entries_.commit({steps.data(), steps.size()}, own_sp_, kThreadWait, report, problem)) {
      change.conflicts = conflicts + report.conflicts;
    } else {
      if (is_out) writer.undo_take_out();
      lead_others_back(writer, others);
    }
  }
  left_open_ = left_open_ || !writer.has_restored_all();
}

// ---- dlsym -----------------------------------------------------------------------------------------------------------

/// What leads dlsym() here comes first and goes last: by itself it changes no answer.
Result<std::unique_ptr<Change>> Engine::commit_answering(std::unique_ptr<Change> change, const Plan &plan,
                                                         Outside &outside) {
  if (!DlsymAnswers::are_asked_for(plan.requests)) return commit_prepared(std::move(change), plan, outside);
  struct Last {
    Engine &engine;
    ~Last() { engine.drop_lookups(); }
  } const last{*this};
  if (lookups_ == nullptr) {
    auto led = apply_held(DlsymAnswers::requests(), outside);
    if (!led) {
      led.error().message = "dlsym() cannot be led to shunt: " + led.error().message;
      return led;
    }
    lookups_ = std::move(*led);
  }
  auto answers = DlsymAnswers::make(layers_, plan.requests.size(), patches_);
  auto committed = commit_prepared(std::move(change), plan, outside);
  if (!committed) return committed;
  answers->fill(layers_);
  DlsymAnswers::publish(std::move(answers));
  return committed;
}

Result<Done> Engine::revert_answering(Change &change) {
  auto without = DlsymAnswers::make(layers_, 0, patches_), before = DlsymAnswers::make(layers_, 0, patches_);
  without->fill(layers_, &change);
  before->fill(layers_);
  DlsymAnswers::publish(std::move(without));
  auto reverted = revert_held(change);
  if (reverted)
    drop_lookups();
  else
    DlsymAnswers::publish(std::move(before));
  return reverted;
}

/// Where no redirect asks for answers any more. What cannot be taken out stays, and changes nothing.
void Engine::drop_lookups() {
  const std::vector<Change *> &changes = layers_.changes();
  if (lookups_ == nullptr ||
      std::any_of(changes.begin(), changes.end(), [](const Change *one) { return asks_for_answers(*one); }))
    return;
  try {
    DlsymAnswers::publish(nullptr);
    if (const auto reverted = revert_held(*lookups_); !reverted) {
      log(SHUNT_LOG_ERROR, "dlsym() is still led to shunt, which answers as before: %s",
          reverted.error().message.c_str());
      return;
    }
    DlsymAnswers::lead_back(*lookups_);
    lookups_.reset();
  } catch (const std::bad_alloc &) {
    log(SHUNT_LOG_ERROR, "no memory to lead dlsym() back: it goes through shunt, and answers as before");
  }
}

/// Patches have come or gone: what they look up themselves is not replaced.
void Engine::renew_answers() {
  if (lookups_ == nullptr) return;
  auto answers = DlsymAnswers::make(layers_, 0, patches_);
  answers->fill(layers_);
  DlsymAnswers::publish(std::move(answers));
}

void Engine::plan_lookups(Plan &plan, Outside &outside, Problem &problem) {
  if (!DlsymAnswers::are_asked_for(plan.requests) || lookups_ != nullptr) return;
  plan.lookups = std::make_unique<Plan>();
  plan.lookups->requests = DlsymAnswers::requests();
  make_plan(*plan.lookups, false, outside, problem);
}

bool Engine::may_have_given(const Requests &requests) {
  const Guard guard(*this);
  const bool was_given =
      std::any_of(requests.begin(), requests.end(), [](const auto &one) { return one->was_given.load(); });
  return was_given || (DlsymAnswers::are_asked_for(requests) && (!guard || !DlsymAnswers::is_settled()));
}

// ---- while it stands -------------------------------------------------------------------------------------------------

/// A thread that was inside the dynamic linker's lazy binding when we wrote its slot stores the function there when it comes
/// out, over our value. Such a slot is ours all the same: it is written again. Asked before everything that reads slots.
void Engine::settle() {
  if (!layers_.changes().empty()) {
    Problem ignored;
    objects_.while_locked(ignored, [&](Problem &) { adopt_new(); });
  }
  if (late_.has_news()) {
    const LateObjects::News news = late_.news();
    if (news.problem) log(SHUNT_LOG_ERROR, "an object that was loaded is not redirected: %s", news.problem.message);
    if (news.slots > 0) log(SHUNT_LOG_INFO, "redirected %zu slots of objects that were loaded", news.slots);
  }
  drop_unloaded();
  for (Change *change : layers_.changes()) {
    if (!change->has_late || !change->is_applied) continue;
    Problem problem;
    objects_.while_locked(problem, [&](Problem &inner) {
      Presence presence;
      if (!see_which_are_loaded(*change, presence, inner)) return;
      for (std::size_t k = 0; k < change->list.spans.size(); ++k) {
        if (!presence.of(k)) continue;
        const Span &span = change->list.spans[k];
        for (const Slot &slot : change->list.in(span)) {
          const std::uintptr_t address = span.base + slot.where;
          const ChangeRedirect &redirect = change->redirects[slot.redirect];
          if (!slot.is_late || load_word(address) != redirect.function) continue;
          const std::uintptr_t after =
              Layers::top_of(layers_.over(redirect.request->symbol), address, change->after(slot));
          std::uintptr_t found = 0;
          WriteWindows windows;
          if (windows.open(
                  address, address, 1, [&](std::size_t) { return address; }, span.path, inner))
            change_word(address, redirect.function, after, 0, found);
        }
      }
    });
  }
}

// ---- objects loaded later --------------------------------------------------------------------------------------------

/// Where nothing will tell that an object is ready, it is once nobody is loading. Before the engine is held: a constructor may be
/// waiting for it.
Engine &Engine::Guard::free_of_loads(Engine &engine) {
  if (LoaderWatch::has_silent()) LoaderWatch::wait_for_loading();
  return engine;
}

/// Only inside while_locked().
void Engine::adopt_new() {
  if (adopted_generation_ == objects_.generation()) return;
  late_.drop_gone();
  if (layers_.changes().empty()) return;
  adopted_generation_ = objects_.generation();
  adopted_below_ = late_.adopt(adopted_below_);
  if (adopted_below_ < objects_.next_id()) adopted_generation_ = 0;
}

/// On a thread that loads objects, before their first constructor. It waits for a transaction of another thread to end.
void Engine::on_load() {
  Engine &engine = instance();
  const Guard guard(engine, kLoadWait);
  if (guard)
    engine.settle_if_possible();  // else this thread is inside the engine, which looks by itself, or it is asked next
}

/// Where there is no way to tell that there was no memory: what is left to be done is done when shunt is asked next.
void Engine::settle_if_possible() {
  try {
    settle();
  } catch (const std::bad_alloc &) {
    adopted_generation_ = 0;
    log(SHUNT_LOG_ERROR,
        "no memory to look at objects that were loaded or unloaded: that is done when shunt is asked next");
  }
}

Engine::LaterObjects Engine::later_objects() {
  const Guard guard(*this);
  return {guard && is_watching_, LoaderWatch::other_namespaces()};
}

/// Before and after it is led to shunt nobody may be in the middle of a load: objects that were mapped and not relocated then would be
/// taken for loaded ones.
Result<Done> Engine::watch_loads() {
  LoaderWatch::wait_for_loading();
  Problem problem;
  {
    const Guard guard(*this);
    if (!guard) return Guard::problem().to_error();
    if (is_watching_) return Done{};
    is_watching_ = lead_notice(problem);
    if (!is_watching_) return problem.to_error();
  }
  LoaderWatch::wait_for_loading();
  const Guard guard(*this);
  if (!guard) return Guard::problem().to_error();
  objects_.while_locked(problem, [&](Problem &) { adopted_below_ = std::min(adopted_below_, late_.adopt(0)); });
  return Done{};
}

bool Engine::lead_notice(Problem &problem) {
  const std::uintptr_t point = LoaderWatch::notice_point();
  const Object *linker = nullptr;
  objects_.while_locked(problem, [&](Problem &) { linker = point != 0 ? objects_.at(point) : nullptr; });
  constexpr std::uintptr_t kAlignment = 16;  // of functions: the next one does not begin before
  if (linker == nullptr || !linker->image.is_code(point) || point % kAlignment != 0) {
    problem.set(Code::entry_refused, "the dynamic linker has no function that it calls when it has loaded objects");
    return false;
  }
  EntryTarget target;
  target.object = linker->path;
  target.symbol = "_dl_debug_state";
  arch::Bytes &body = target.function.body;
  body = {point, reinterpret_cast<const std::uint8_t *>(point), kAlignment};
  body.size = arch::NativeCode::size_of_return(body);
  target.function.after = kAlignment - body.size;
  PageVector<EntryStep> steps;
  EntryReport report;
  EntryId notice = 0;
  if (!steps.reserve(1)) {
    problem.set(Code::out_of_memory, "no memory to watch what is loaded");
    return false;
  }
  if (!entries_.prepare(target, notice, problem) || !entries_.write_trampolines(problem)) return false;
  add_step(steps, notice, reinterpret_cast<std::uintptr_t>(&LoaderWatch::notice), false);
  if (!entries_.commit({steps.data(), steps.size()}, kThreadWait, report, problem)) return false;
  LoaderWatch::tell(on_load);
  return true;
}

/// Code that was unloaded, or is another loading of the same object, has no entry of ours any more.
void Engine::drop_unloaded() {
  if (codes_.is_empty()) return;
  std::vector<std::uintptr_t> gone;
  std::size_t count = 0;
  layers_.for_each_entry([&](const Layer &) { ++count; });
  gone.reserve(count);
  Problem problem;
  bool is_new = false;
  objects_.while_locked(problem, [&](Problem &) {
    is_new = codes_seen_ != objects_.generation();
    if (!is_new) return;
    codes_seen_ = objects_.generation();
    codes_.mark_gone(objects_);
    layers_.for_each_entry([&](const Layer &layer) {
      if (!is_loaded(*layer) || entries_.is_the_function_again(layer->entry)) gone.push_back(layer->function);
    });
  });
  if (problem || !is_new) return;
  for (const std::uintptr_t function : gone) {
    entries_.forget(function, function + 1);
    layers_.forget_entry(function);
  }
  codes_.drop_gone([this](const KnownCode &code) { entries_.forget(code.code.low(), code.code.high()); });
}

std::size_t Engine::conflicts(Change &change) {
  const Guard guard(*this);
  if (!guard) return 0;
  if (!change.is_applied) return change.conflicts;
  settle();
  std::size_t conflicts = 0;
  Problem problem;
  objects_.while_locked(problem, [&](Problem &inner) {
    conflicts = visit_conflicts(
        change, inner, [](const char *, std::uint32_t, std::uintptr_t, std::uintptr_t, std::uintptr_t, bool) {});
  });
  return conflicts;
}

/// Inside while_locked(). Calls `visit(object, redirect, address, expected, found, is_entry)` for each slot that holds something
/// else, and each entry.
template <class Visit>
std::size_t Engine::visit_conflicts(const Change &change, Problem &problem, Visit visit) {
  std::size_t conflicts = 0;
  Presence presence;
  if (!see_which_are_loaded(change, presence, problem)) return 0;
  const auto look = [&](const char *object, std::uint32_t redirect, std::uintptr_t address, std::uintptr_t expected) {
    const std::uintptr_t found = load_word(address);
    if (found == expected) return;
    ++conflicts;
    visit(object, redirect, address, expected, found, false);
  };
  for (std::uint32_t k = 0; k < change.redirects.size(); ++k) {
    const ChangeRedirect &redirect = change.redirects[k];
    if (!redirect.has_entry() || !is_loaded(redirect) || entries_.stands(redirect.entry)) continue;
    const Entry &entry = entries_.entry(redirect.entry);
    std::uintptr_t expected = 0, found = 0;
    std::memcpy(&found, reinterpret_cast<const void *>(entry.site()), entry.at_entry.size);
    std::memcpy(&expected, entry.at_entry.bytes, entry.at_entry.size);
    ++conflicts;
    visit(redirect.provider, k, entry.site(), expected, found, true);
  }
  for (std::size_t k = 0; k < change.list.spans.size(); ++k) {
    if (!presence.of(k)) continue;
    const Span &span = change.list.spans[k];
    for (const Slot &slot : change.list.in(span)) {
      const std::uintptr_t address = span.base + slot.where;
      const std::vector<Layer> &layers = layers_.over(change.redirects[slot.redirect].request->symbol);
      look(span.path, slot.redirect, address, Layers::top_of(layers, address, change.after(slot)));
    }
  }
  for (const SelfSlot &slot : change.self_slots) look("the patch", slot.redirect, slot.address, slot.after);
  return conflicts;
}

Result<std::vector<StandingChange>> Engine::standing(bool with_slots) {
  const Guard guard(*this);
  if (!guard) return Guard::problem().to_error();
  settle();
  std::vector<StandingChange> all(layers_.changes().size());
  for (std::size_t k = 0; k < all.size(); ++k) {
    const Change &change = *layers_.changes()[k];
    all[k].change = &change;
    all[k].entries = change.entry_count();
    for (std::uint32_t r = 0; r < change.redirects.size(); ++r) {
      const ChangeRedirect &redirect = change.redirects[r];
      if (!redirect.is_active()) continue;
      const std::vector<Layer> &layers = layers_.over(redirect.request->symbol);
      const auto own = std::find_if(layers.begin(), layers.end(),
                                    [&](const Layer &layer) { return layer.change == &change && layer.redirect == r; });
      all[k].redirects.push_back({redirect.request->symbol, redirect.provider, "", redirect.replacement, redirect.slots,
                                  redirect.has_entry(), static_cast<std::uint32_t>(own - layers.begin()) + 1,
                                  static_cast<std::uint32_t>(layers.size()), redirect.request->dlsym,
                                  redirect.request->is_own});
    }
    all[k].objects.resize(change.list.spans.size());
    all[k].conflicting.reserve(with_slots ? StandingChange::kConflictsShown : 0);
  }
  Problem problem;
  objects_.while_locked(problem, [&](Problem &inner) {
    for (StandingChange &one : all) {
      Presence presence;
      if (!see_which_are_loaded(*one.change, presence, inner)) return;
      std::size_t kept = 0;
      for (std::size_t k = 0; k < one.change->list.spans.size(); ++k)
        if (presence.of(k)) one.objects[kept++] = {one.change->list.spans[k].path, one.change->list.spans[k].count};
      one.objects.resize(kept);  // smaller: takes no memory
      for (StandingRedirect &redirect : one.redirects) {
        const Object *holder = objects_.at(redirect.replacement);
        redirect.replacement_in = holder != nullptr ? holder->path : "";
      }
      one.conflicts = visit_conflicts(
          *one.change, inner,
          [&](const char *object, std::uint32_t redirect, std::uintptr_t address, std::uintptr_t expected,
              std::uintptr_t found, bool is_entry) {
            if (one.conflicting.size() == one.conflicting.capacity()) return;
            const Object *holder = objects_.at(found);
            one.conflicting.push_back({one.change->redirects[redirect].request, object,
                                       holder != nullptr ? holder->path : "", address, expected, found, is_entry});
          });
    }
  });
  if (problem) return problem.to_error();
  return all;
}

Result<ImportList> Engine::imports(const std::vector<std::string> &symbols, const std::vector<std::string> &callers) {
  const Guard guard(*this);
  if (!guard) return Guard::problem().to_error();
  settle();
  ImportList list;
  Problem problem;
  objects_.while_locked(problem, [&](Problem &inner) { list.fill(objects_, symbols, callers, inner); });
  if (problem) return problem.to_error();
  return list;
}

}  // namespace shunt::core
