#include "engine/engine.hpp"

#include <pthread.h>

#include <algorithm>

#include "base/log.hpp"
#include "engine/planner.hpp"

namespace shunt::core {
namespace {

/// Opens the pages of all runs whose slots `wanted(slot)`, one object after the other.
bool open_runs(WriteWindows &windows, const PageVector<Slot> &slots, const PageVector<Run> &runs, Problem &problem) {
  for (const Run &run : runs) {
    if (run.count == 0) continue;
    const Slot *first = slots.data() + run.first;
    if (!windows.open(run.count, [first](std::size_t k) { return first[k].address; }, run.path, problem)) return false;
  }
  return true;
}

}  // namespace

// ---- one at a time ---------------------------------------------------------------------------------------------------

Engine &Engine::instance() {
  static auto *const engine = new Engine;
  return *engine;
}

/// A fork waits for a transaction to end, so that the child finds it whole or not begun, and the engine free. Where the
/// engine itself ran into a replacement that forks, this thread holds the engine already, and goes on holding it.
Engine::Engine() {
  pthread_atfork([] { instance().before_fork(); }, [] { instance().after_fork(); }, [] { instance().after_fork(); });
}

void Engine::before_fork() {
  forks_while_held_ = __atomic_load_n(&owner_, __ATOMIC_RELAXED) == sys::thread_id();
  if (!forks_while_held_) mutex_.lock();
}

void Engine::after_fork() {
  if (!forks_while_held_) mutex_.unlock();
  if (forks_while_held_) __atomic_store_n(&owner_, sys::thread_id(), __ATOMIC_RELAXED);  // the child has another id
}

Engine::Guard::Guard(Engine &engine) : engine_(engine) {
  const int thread = sys::thread_id();
  if (__atomic_load_n(&engine_.owner_, __ATOMIC_RELAXED) == thread) return;
  engine_.mutex_.lock();
  __atomic_store_n(&engine_.owner_, thread, __ATOMIC_RELAXED);
  holds_ = true;
}

Engine::Guard::~Guard() {
  if (!holds_) return;
  __atomic_store_n(&engine_.owner_, 0, __ATOMIC_RELAXED);
  engine_.mutex_.unlock();
}

Problem Engine::Guard::problem() {
  Problem problem;
  problem.set(Code::busy, "shunt was called from inside shunt, by a replacement that it ran into on this thread");
  return problem;
}

void Engine::add_patch(std::uintptr_t address) {
  if (const Guard guard(*this); guard) patches_.push_back(address);
}

void Engine::remove_patch(std::uintptr_t address) {
  if (const Guard guard(*this); guard) std::erase(patches_, address);
}

// ---- plan ------------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<Plan>> Engine::plan(const Requests &requests) {
  const Guard guard(*this);
  if (!guard) return Guard::problem().to_error();
  auto plan = std::make_unique<Plan>();
  plan->requests = requests;
  Problem problem;
  settle();
  make_plan(*plan, problem);
  if (problem) return problem.to_error();
  finish_plan(*plan);
  return plan;
}

void Engine::make_plan(Plan &plan, Problem &problem) {
  Planner planner(objects_, layers_, patches_, plan);
  objects_.while_locked(problem, [&](Problem &inner) { planner.run(inner); });
}

/// What needs no look at the objects: originals, given the layers that stand.
void Engine::finish_plan(Plan &plan) {
  for (std::uint32_t k = 0; k < plan.requests.size(); ++k) {
    PlannedRedirect &redirect = plan.redirects[k];
    const std::vector<Layer> &layers = layers_.over(plan.requests[k]->symbol);
    if (redirect.slots > 0)
      redirect.original = Layers::original_over(layers, layers.size(), plan.slots, k, redirect.function);
  }
}

// ---- commit ----------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<Change>> Engine::apply(const Requests &requests) {
  const Guard guard(*this);
  if (!guard) return Guard::problem().to_error();
  Plan plan;
  plan.requests = requests;
  Problem problem;
  settle();
  make_plan(plan, problem);
  if (problem) return problem.to_error();
  if (plan.written_slots == 0) return make_error(Code::patch_matches_nothing, "nothing to redirect");
  finish_plan(plan);
  auto change = std::make_unique<Change>();
  change->slots.swap(plan.slots);
  change->runs.swap(plan.runs);
  change->written_slots = plan.written_slots;
  for (std::size_t k = 0; k < plan.requests.size(); ++k)
    change->redirects.push_back(
        {plan.requests[k], plan.redirects[k].function, plan.redirects[k].provider, plan.redirects[k].original});
  return commit_prepared(std::move(change), plan.generation);
}

Result<std::unique_ptr<Change>> Engine::commit(const Plan &plan) {
  const Guard guard(*this);
  if (!guard) return Guard::problem().to_error();
  settle();
  auto change = std::make_unique<Change>();
  if (!change->slots.assign({plan.slots.data(), plan.slots.size()}) ||
      !change->runs.assign({plan.runs.data(), plan.runs.size()}))
    return make_error(Code::out_of_memory, "no memory for a change of %zu slots", plan.slots.size());
  change->written_slots = plan.written_slots;
  for (std::uint32_t k = 0; k < plan.requests.size(); ++k) {
    // Layers may have come and gone since the plan was made; where that matters a slot tells.
    const PlannedRedirect &redirect = plan.redirects[k];
    const std::vector<Layer> &layers = layers_.over(plan.requests[k]->symbol);
    change->redirects.push_back(
        {plan.requests[k], redirect.function, redirect.provider,
         redirect.slots > 0 ? Layers::original_over(layers, layers.size(), change->slots, k, redirect.function) : 0});
  }
  return commit_prepared(std::move(change), plan.generation);
}

Result<std::unique_ptr<Change>> Engine::commit_prepared(std::unique_ptr<Change> change, std::uint64_t generation) {
  for (Slot &slot : change->slots) {
    if (slot.is_self) {
      const std::uintptr_t original = change->redirects[slot.redirect].original;
      slot.after = original != 0 ? original : slot.before;  // 0: an export that replaces nothing here
    }
    if (slot.is_lazy) ++change->lazy_slots;
  }
  std::vector<std::uintptr_t> cells;  // what the users' words held, to be put back on failure
  for (const ChangeRedirect &redirect : change->redirects)
    cells.push_back(redirect.request->original_cell != nullptr ? *redirect.request->original_cell : 0);
  layers_.add(*change);  // takes memory, so before anything is written

  Problem problem;
  objects_.while_locked(problem, [&](Problem &inner) { write(*change, generation, inner); });
  if (problem) {
    layers_.remove(*change);
    for (std::size_t k = 0; k < cells.size(); ++k)
      if (std::uintptr_t *cell = change->redirects[k].request->original_cell) *cell = cells[k];
    return problem.to_error();
  }
  change->is_applied = true;
  if (change->lazy_slots > 0) settle();
  log(SHUNT_LOG_INFO, "applied %zu redirects, %zu slots in %zu objects", change->redirects.size(), change->written_slots,
      change->runs.size());
  return change;
}

void Engine::write(Change &change, std::uint64_t generation, Problem &problem) {
  if (!planned_objects_stay(change, generation, problem)) return;
  WriteWindows windows;
  if (!open_runs(windows, change.slots, change.runs, problem)) return;
  for (std::size_t k = 0; k < change.redirects.size(); ++k)
    if (change.redirects[k].function != 0) change.set_original(k, change.redirects[k].original);

  std::size_t failed = 0;
  std::uintptr_t value = 0;
  Slot *const slots = change.slots.data();
  const bool written = change_all_words(
      change.slots.size(),
      [&](std::size_t k) {
        const Slot &slot = slots[k];
        return WordChange{slot.address, slot.before, slot.after, slot.is_lazy ? change.redirects[slot.redirect].function : 0};
      },
      [&](std::size_t k, std::uintptr_t found) { slots[k].before = found; }, failed, value);
  if (written) return;
  const Slot &slot = slots[failed];
  const Object *caller = objects_.at(slot.address);
  problem.object = caller != nullptr ? caller->path : "";
  problem.symbol = change.redirects[slot.redirect].request->symbol.c_str();
  problem.address = slot.address;
  problem.set(Code::slot_changed,
              "the slot of '%s' at %#lx in %s held %#lx when the plan was made and holds %#lx now: somebody else changed it",
              problem.symbol, slot.address, problem.object, slot.before, value);
}

bool Engine::planned_objects_stay(const Change &change, std::uint64_t generation, Problem &problem) {
  if (generation == objects_.generation()) return true;
  for (const Run &run : change.runs) {
    const Object *object = objects_.with_id(run.object);
    if (object != nullptr && object->contains(run.low)) continue;
    problem.object = run.path;
    problem.set(Code::plan_stale, "%s, which the plan would change, has been unloaded since the plan was made: plan again", run.path);
    return false;
  }
  return true;
}

// ---- revert ----------------------------------------------------------------------------------------------------------

Result<Done> Engine::revert(Change &change) {
  const Guard guard(*this);
  if (!guard) return Guard::problem().to_error();
  if (!change.is_applied) return make_error(Code::wrong_state, "this change has been reverted already");
  settle();

  // Layers that lie over this one keep their slots. What they lead back to changes, and perhaps their original.
  struct Above {
    Slot *slot;
    std::uintptr_t before;
  };
  struct NewOriginal {
    Layer layer;
    std::uintptr_t original;
  };
  std::vector<Above> above;
  std::vector<NewOriginal> originals;
  std::vector<char> has_above(change.redirects.size());
  PageVector<Slot> self_slots;  // of layers above, whose original changes
  PageVector<Run> self_runs;
  bool memory = true;
  for (std::uint32_t k = 0; k < change.redirects.size(); ++k) {
    const std::vector<Layer> &layers = layers_.over(change.redirects[k].request->symbol);
    const auto own = std::find_if(layers.begin(), layers.end(), [&](const Layer &layer) { return layer.change == &change && layer.redirect == k; });
    for (auto layer = own + 1; layer < layers.end(); ++layer) {
      if (layer->change == &change) continue;  // the same symbol twice in one transaction, for other callers
      has_above[k] = 1;
      ChangeRedirect &redirect = **layer;
      const std::uintptr_t original =
          Layers::original_over(layers, static_cast<std::size_t>(layer - layers.begin()), layer->change->slots,
                                layer->redirect, redirect.function, &change);
      if (original == redirect.original) continue;
      originals.push_back({*layer, original});
      for (const Run &run : layer->change->runs) {
        const auto first = static_cast<std::uint32_t>(self_slots.size());
        for (const Slot &slot : std::span(layer->change->slots.data() + run.first, run.count))
          if (slot.is_self && slot.redirect == layer->redirect) {
            Slot moved = slot;
            moved.before = redirect.original;
            moved.after = original;
            memory = memory && self_slots.push_back(moved);
          }
        const auto count = static_cast<std::uint32_t>(self_slots.size()) - first;
        if (count > 0) memory = memory && self_runs.push_back({run.object, run.path, run.low, run.high, first, count});
      }
    }
  }
  if (!memory) return make_error(Code::out_of_memory, "no memory to revert a change");
  if (std::find(has_above.begin(), has_above.end(), 1) != has_above.end()) {
    for (Slot &slot : change.slots) {
      if (slot.is_self || has_above[slot.redirect] == 0) continue;
      const std::vector<Layer> &layers = layers_.over(change.redirects[slot.redirect].request->symbol);
      auto layer = std::find_if(layers.begin(), layers.end(), [&](const Layer &one) { return one.change == &change; });
      for (++layer; layer < layers.end(); ++layer) {
        Slot *upper = layer->change == &change ? nullptr : layer->change->slot_at(slot.address);
        if (upper == nullptr || upper->before != slot.after) continue;
        above.push_back({upper, slot.before});
        slot.is_covered = true;
        break;
      }
    }
  }

  Problem problem;
  std::size_t conflicts = 0;
  objects_.while_locked(problem, [&](Problem &inner) {
    // Objects that were unloaded took their slots with them.
    const auto is_loaded = [&](const Run &run) {
      const Object *object = objects_.with_id(run.object);
      return object != nullptr && object->contains(run.low) && object->contains(run.high);
    };
    WriteWindows windows;
    PageVector<Run> present, self_present;
    for (const Run &run : change.runs)
      if (is_loaded(run) && !present.push_back(run)) return inner.set(Code::out_of_memory, "no memory to revert a change");
    for (const Run &run : self_runs)
      if (is_loaded(run) && !self_present.push_back(run)) return inner.set(Code::out_of_memory, "no memory to revert a change");
    if (!open_runs(windows, change.slots, present, inner) || !open_runs(windows, self_slots, self_present, inner)) return;

    for (const NewOriginal &one : originals) one.layer.change->set_original(one.layer.redirect, one.original);
    std::uintptr_t found = 0;
    for (const Run &run : self_present)
      for (const Slot &slot : std::span(self_slots.data() + run.first, run.count))
        change_word({slot.address, slot.before, slot.after, 0}, found);
    for (const Run &run : present)
      for (const Slot &slot : std::span(change.slots.data() + run.first, run.count)) {
        if (slot.is_covered || change_word({slot.address, slot.after, slot.before, 0}, found)) continue;
        // Bound by the dynamic linker behind our back, it already leads to the function: that is no conflict.
        if (found != slot.before && found != change.redirects[slot.redirect].function) ++conflicts;
      }
  });
  for (Slot &slot : change.slots) slot.is_covered = false;
  if (problem) return problem.to_error();
  for (const Above &one : above) one.slot->before = one.before;
  layers_.remove(change);
  change.is_applied = false;
  change.conflicts = conflicts;
  log(conflicts > 0 ? SHUNT_LOG_WARNING : SHUNT_LOG_INFO, "reverted %zu redirects, %zu slots; %zu were changed by others and left alone",
      change.redirects.size(), change.written_slots, conflicts);
  return Done{};
}

// ---- while it stands -------------------------------------------------------------------------------------------------

/// A thread that was inside the dynamic linker's lazy binding when we wrote its slot stores the function there when it comes
/// out, over our value. Such a slot is ours all the same: it is written again. Asked before everything that reads slots.
void Engine::settle() {
  for (Change *change : layers_.changes()) {
    if (change->lazy_slots == 0 || !change->is_applied) continue;
    Problem problem;
    objects_.while_locked(problem, [&](Problem &inner) {
      for (const Run &run : change->runs) {
        const Object *object = objects_.with_id(run.object);
        if (object == nullptr || !object->contains(run.low) || !object->contains(run.high)) continue;
        for (const Slot &slot : std::span(change->slots.data() + run.first, run.count)) {
          const std::uintptr_t function = change->redirects[slot.redirect].function;
          if (!slot.is_lazy || load_word(slot.address) != function) continue;
          std::uintptr_t after = slot.after, found = 0;  // of the newest layer over the slot
          for (const Layer &layer : layers_.over(change->redirects[slot.redirect].request->symbol))
            if (const Slot *upper = layer.change->slot_at(slot.address)) after = upper->after;
          WriteWindows windows;
          if (windows.open(1, [&](std::size_t) { return slot.address; }, run.path, inner))
            change_word({slot.address, function, after, 0}, found);
        }
      }
    });
  }
}

std::size_t Engine::conflicts(Change &change) {
  if (!change.is_applied) return change.conflicts;
  const Guard guard(*this);
  if (!guard) return 0;
  settle();
  std::size_t conflicts = 0;
  Problem problem;
  objects_.while_locked(problem, [&](Problem &) {
    for (const Run &run : change.runs) {
      const Object *object = objects_.with_id(run.object);
      if (object == nullptr || !object->contains(run.low) || !object->contains(run.high)) continue;
      for (const Slot &slot : std::span(change.slots.data() + run.first, run.count)) {
        std::uintptr_t expected = slot.after;
        if (!slot.is_self)
          for (const Layer &layer : layers_.over(change.redirects[slot.redirect].request->symbol))
            if (const Slot *upper = layer.change->slot_at(slot.address)) expected = upper->after;
        if (load_word(slot.address) != expected) ++conflicts;
      }
    }
  });
  return conflicts;
}

Engine::IndexUse Engine::index_use() {
  const Guard guard(*this);
  IndexUse use;
  if (!guard) return use;
  Problem problem;
  objects_.while_locked(problem, [&](Problem &) {
    use.bytes = objects_.index_bytes();
    for (const Object &object : objects_.in_load_order()) {
      if (object.index.starts == nullptr) continue;
      use.slots += object.index.count;
      ++use.objects;
    }
  });
  return use;
}

}  // namespace shunt::core
