#include "engine/engine.hpp"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "base/log.hpp"
#include "engine/writer.hpp"

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
  pthread_atfork([] { instance().mutex_.before_fork(); }, [] { instance().mutex_.after_fork_in_parent(); },
                 [] { instance().mutex_.after_fork_in_child(); });
}

Problem Engine::Guard::problem() {
  Problem problem;
  problem.set(Code::busy, "shunt was called from inside shunt, by a replacement that it ran into on this thread");
  return problem;
}

void Engine::add_patch(LoadedPatch patch) {
  const Guard guard(*this);
  if (!guard) return;
  Problem ignored;  // where the objects cannot be listed now, the patch keeps the name that the dynamic linker gave it
  objects_.while_locked(ignored, [&](Problem &) { objects_.call(patch.inside, patch.file.c_str()); });
  patches_.push_back(std::move(patch));
}

void Engine::remove_patch(std::uintptr_t inside) {
  if (const Guard guard(*this); guard)
    std::erase_if(patches_, [&](const LoadedPatch &patch) { return patch.inside == inside; });
}

// ---- plan ------------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<Plan>> Engine::plan(const Requests &requests) {
  const Guard guard(*this);
  if (!guard) return Guard::problem().to_error();
  auto plan = std::make_unique<Plan>();
  plan->requests = requests;
  Problem problem;
  settle();
  make_plan(*plan, false, problem);
  if (problem) return problem.to_error();
  finish_plan(*plan);
  return plan;
}

void Engine::make_plan(Plan &plan, bool trusts, Problem &problem) {
  Planner planner(objects_, layers_, names_, last_search_, patches_, trusts, plan);
  objects_.while_locked(problem, [&](Problem &inner) { planner.run(inner); });
}

/// What needs no look at the objects: originals, given the layers that stand.
void Engine::finish_plan(Plan &plan) {
  for (std::uint32_t k = 0; k < plan.requests.size(); ++k) {
    PlannedRedirect &redirect = plan.redirects[k];
    const std::vector<Layer> &layers = layers_.over(plan.requests[k]->symbol);
    redirect.layers_below = static_cast<std::uint32_t>(layers.size());
    if (redirect.slots > 0 && !layers.empty())
      redirect.original = Layers::original_over(layers, layers.size(), plan.list, k, redirect.function);
  }
}

// ---- commit ----------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<Change>> Engine::apply(const Requests &requests) {
  const Guard guard(*this);
  if (!guard) return Guard::problem().to_error();
  settle();
  for (bool trusts = true;; trusts = false) {
    Plan plan;
    plan.requests = requests;
    Problem problem;
    make_plan(plan, trusts, problem);
    if (problem) return problem.to_error();
    if (plan.list.slots.empty()) return make_error(Code::patch_matches_nothing, "nothing to redirect");
    finish_plan(plan);
    auto change = std::make_unique<Change>();
    std::swap(change->list, plan.list);
    change->self_slots.swap(plan.self_slots);
    auto committed = commit_prepared(std::move(change), plan);
    // Somebody has changed a slot since the last plan: what is in its place is found out by reading.
    if (committed || !plan.is_trusted || committed.error().code != Code::slot_changed) return committed;
  }
}

Result<std::unique_ptr<Change>> Engine::commit(const Plan &plan) {
  const Guard guard(*this);
  if (!guard) return Guard::problem().to_error();
  settle();
  auto change = std::make_unique<Change>();
  if (!change->list.assign(plan.list) || !change->self_slots.assign({plan.self_slots.data(), plan.self_slots.size()}))
    return make_error(Code::out_of_memory, "no memory for a change of %zu slots", plan.list.slots.size());
  return commit_prepared(std::move(change), plan);
}

/// `change` has the plan's slots and no more.
Result<std::unique_ptr<Change>> Engine::commit_prepared(std::unique_ptr<Change> change, const Plan &plan) {
  for (const auto &request : plan.requests)
    if (request->replacement == 0)
      return make_error(Code::wrong_state, "the replacement of '%s' is not loaded: this plan is only to be looked at",
                        request->symbol.c_str());
  std::vector<std::uintptr_t> cells;  // what the users' words held, to be put back on failure
  for (std::uint32_t k = 0; k < plan.requests.size(); ++k) {
    const PlannedRedirect &planned = plan.redirects[k];
    const Request &request = *plan.requests[k];
    // Layers may have come or gone since the plan was made. Where that matters, a slot tells.
    const std::vector<Layer> &layers = layers_.over(request.symbol);
    const std::uintptr_t original =
        planned.slots > 0 ? Layers::original_over(layers, layers.size(), change->list, k, planned.function) : 0;
    change->redirects.push_back(
        {plan.requests[k], planned.function, planned.provider, original, planned.slots, request.replacement});
    cells.push_back(request.original_cell != nullptr ? *request.original_cell : 0);
  }
  for (SelfSlot &slot : change->self_slots) {
    const ChangeRedirect &redirect = change->redirects[slot.redirect];
    slot.after = redirect.slots > 0 ? redirect.original : slot.before;  // an export that replaces nothing here
  }
  change->has_late = plan.has_late;
  change->seen = plan.generation;
  layers_.add(*change);  // takes memory, so before anything is written

  Problem problem;
  objects_.while_locked(problem, [&](Problem &inner) { write(*change, plan.generation, inner); });
  tell_left_open();
  if (problem) {
    layers_.remove(*change);
    for (std::size_t k = 0; k < cells.size(); ++k)
      if (std::uintptr_t *cell = change->redirects[k].request->original_cell) *cell = cells[k];
    return problem.to_error();
  }
  change->is_applied = true;
  if (change->has_late) settle();
  log(SHUNT_LOG_INFO, "applied %zu redirects, %zu slots in %zu objects", change->redirects.size(),
      change->list.slots.size(), change->list.spans.size());
  return change;
}

void Engine::write(Change &change, std::uint64_t generation, Problem &problem) {
  Presence presence;
  if (!see_which_are_loaded(change, presence, problem)) return;
  for (std::size_t k = 0; k < change.list.spans.size() && generation != objects_.generation(); ++k) {
    if (presence.of(k)) continue;
    problem.object = change.list.spans[k].path;
    return problem.set(Code::plan_stale,
                       "%s, which the plan would change, has been unloaded since the plan was made: plan again",
                       problem.object);
  }
  for (std::size_t k = 0; k < change.redirects.size(); ++k)
    if (change.redirects[k].slots > 0) change.set_original(k, change.redirects[k].original);
  Writer writer(change, presence);
  writer.put_in(problem);
  left_open_ = left_open_ || !writer.has_restored_all();
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

/// What a revert means for the layers above: found out before anything is written, done after.
struct LayersAbove {
  struct Lead {  // a slot of a layer above leads back to something else from now on
    Change *change;
    Slot *slot;
    std::uintptr_t before;
    bool is_late;
  };
  struct Original {  // a layer above has another original from now on
    Layer layer;
    std::uintptr_t original;
  };
  std::vector<Lead> leads;
  std::vector<Original> originals;

  LayersAbove(const Layers &all, Change &change) {
    for (std::uint32_t k = 0; k < change.redirects.size(); ++k) {
      const std::vector<Layer> &layers = all.over(change.redirects[k].request->symbol);
      const auto own = std::find_if(layers.begin(), layers.end(),
                                    [&](const Layer &layer) { return layer.change == &change && layer.redirect == k; });
      if (own == layers.end() || own + 1 == layers.end()) continue;
      for (auto layer = own + 1; layer != layers.end(); ++layer) {
        if (layer->change == &change) continue;  // the same symbol twice in one transaction, for other callers
        const auto below = static_cast<std::size_t>(layer - layers.begin());
        const std::uintptr_t original =
            Layers::original_over(layers, below, layer->change->list, layer->redirect, (*layer)->function, &change);
        if (original != (*layer)->original) originals.push_back({*layer, original});
      }
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

}  // namespace

Result<Done> Engine::revert(Change &change) {
  const Guard guard(*this);
  if (!guard) return Guard::problem().to_error();
  if (!change.is_applied) return make_error(Code::wrong_state, "this change has been reverted already");
  settle();
  const LayersAbove above(layers_, change);
  Problem problem;
  objects_.while_locked(problem, [&](Problem &inner) {
    Presence presence;
    if (!see_which_are_loaded(change, presence, inner)) return;
    Writer writer(change, presence);
    std::size_t led = 0;
    for (; led < above.originals.size(); ++led) {
      const LayersAbove::Original &one = above.originals[led];
      if (!writer.lead_self_slots(*one.layer.change, one.layer.redirect, one.original, inner)) break;
    }
    const bool is_out = !inner && writer.take_out(change.conflicts, inner);
    left_open_ = left_open_ || !writer.has_restored_all();
    if (is_out) return;
    Problem refused;
    for (std::size_t k = 0; k < std::min(led + 1, above.originals.size()); ++k) {
      const LayersAbove::Original &one = above.originals[k];
      writer.lead_self_slots(*one.layer.change, one.layer.redirect, one.layer->original, refused);
    }
  });
  for (Slot &slot : change.list.slots) slot.is_covered = false;
  tell_left_open();
  if (problem) return problem.to_error();
  for (const LayersAbove::Original &one : above.originals)
    one.layer.change->set_original(one.layer.redirect, one.original);
  for (const LayersAbove::Lead &one : above.leads) {
    one.change->list.odd_of(*one.slot).before = one.before;  // it led to a replacement, so it is odd
    // A thread may still be inside the lazy binding of the slot: from now on settle() looks after it for the layer above.
    one.slot->is_late = one.slot->is_late || one.is_late;
    one.change->has_late = one.change->has_late || one.is_late;
  }
  layers_.remove(change);
  change.is_applied = false;
  log(change.conflicts > 0 ? SHUNT_LOG_WARNING : SHUNT_LOG_INFO,
      "reverted %zu redirects, %zu slots; %zu were changed by others and left alone", change.redirects.size(),
      change.list.slots.size(), change.conflicts);
  return Done{};
}

// ---- while it stands -------------------------------------------------------------------------------------------------

/// A thread that was inside the dynamic linker's lazy binding when we wrote its slot stores the function there when it comes
/// out, over our value. Such a slot is ours all the same: it is written again. Asked before everything that reads slots.
void Engine::settle() {
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

std::size_t Engine::conflicts(Change &change) {
  const Guard guard(*this);
  if (!guard) return 0;
  if (!change.is_applied) return change.conflicts;
  settle();
  std::size_t conflicts = 0;
  Problem problem;
  objects_.while_locked(problem, [&](Problem &inner) {
    conflicts = visit_conflicts(change, inner,
                                [](const char *, std::uint32_t, std::uintptr_t, std::uintptr_t, std::uintptr_t) {});
  });
  return conflicts;
}

/// Inside while_locked(). Calls `visit(object, redirect, address, expected, found)` for each slot that holds something else.
template <class Visit>
std::size_t Engine::visit_conflicts(const Change &change, Problem &problem, Visit visit) {
  std::size_t conflicts = 0;
  Presence presence;
  if (!see_which_are_loaded(change, presence, problem)) return 0;
  const auto look = [&](const char *object, std::uint32_t redirect, std::uintptr_t address, std::uintptr_t expected) {
    const std::uintptr_t found = load_word(address);
    if (found == expected) return;
    ++conflicts;
    visit(object, redirect, address, expected, found);
  };
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
    for (std::uint32_t r = 0; r < change.redirects.size(); ++r) {
      const ChangeRedirect &redirect = change.redirects[r];
      if (redirect.slots == 0) continue;
      const std::vector<Layer> &layers = layers_.over(redirect.request->symbol);
      const auto own = std::find_if(layers.begin(), layers.end(),
                                    [&](const Layer &layer) { return layer.change == &change && layer.redirect == r; });
      all[k].redirects.push_back({redirect.request->symbol, redirect.provider, "", redirect.replacement, redirect.slots,
                                  static_cast<std::uint32_t>(own - layers.begin()) + 1,
                                  static_cast<std::uint32_t>(layers.size())});
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
              std::uintptr_t found) {
            if (one.conflicting.size() == one.conflicting.capacity()) return;
            const Object *holder = objects_.at(found);
            one.conflicting.push_back({one.change->redirects[redirect].request, object,
                                       holder != nullptr ? holder->path : "", address, expected, found});
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
