// engine.hpp: one for the process. Plans, commits and reverts, each of them all or nothing, one at a time.
//
// The order of a commit: memory first; then, with the loader's lock held: see that the planned objects are still there; tell
// the replacements their originals; then object by object (writer.hpp) open its pages, store its slots if they still hold what
// the plan saw, close its pages. What fails on the way is undone on the spot. No malloc and no log in between.
#pragma once

#include <memory>
#include <vector>

#include "base/owned_mutex.hpp"
#include "base/result.hpp"
#include "engine/imports.hpp"
#include "engine/layers.hpp"
#include "engine/plan.hpp"
#include "engine/planner.hpp"
#include "engine/standing.hpp"
#include "objects/object_table.hpp"

namespace shunt::core {

struct Presence;

class Engine {
 public:
  /// The process's engine. Made on first use, never destroyed: redirects may stand until the very end.
  static Engine &instance();

  Result<std::unique_ptr<Plan>> plan(const Requests &requests);
  Result<std::unique_ptr<Change>> commit(const Plan &plan);
  Result<std::unique_ptr<Change>> apply(const Requests &requests);
  Result<Done> revert(Change &change);

  /// Slots that hold neither the change's value nor that of a layer above it.
  std::size_t conflicts(Change &change);

  /// The changes that stand, oldest first. `with_slots`: also which slots hold something else.
  Result<std::vector<StandingChange>> standing(bool with_slots);

  /// The imports of the loaded objects, where both globs match: the symbols and the callers. Empty lists match everything.
  Result<ImportList> imports(const std::vector<std::string> &symbols, const std::vector<std::string> &callers);

  /// Makes a patch library known: what it exports is a replacement, never an original, and what it calls by the names that it
  /// replaces are originals. For ever, as patches are not unmapped once they were applied.
  void add_patch(LoadedPatch patch);
  void remove_patch(std::uintptr_t inside);

  /// Runs `visit(objects)` with the loader's lock held.
  template <class Visit>
  Problem look_at_all(Visit visit) {
    const Guard guard(*this);
    if (!guard) return guard.problem();
    Problem problem;
    objects_.while_locked(problem, [&](Problem &) { visit(objects_.in_load_order()); });
    return problem;
  }

 private:
  /// Holds the engine; does not when this very thread already holds it (a replacement that the engine ran into).
  class Guard : public OwnedMutex::Guard {
   public:
    explicit Guard(Engine &engine) : OwnedMutex::Guard(engine.mutex_) {}
    [[nodiscard]] static Problem problem();
  };

  Engine();
  void make_plan(Plan &plan, bool trusts, Problem &problem);
  void finish_plan(Plan &plan);
  Result<std::unique_ptr<Change>> commit_prepared(std::unique_ptr<Change> change, const Plan &plan);
  void write(Change &change, std::uint64_t generation, Problem &problem);
  bool see_which_are_loaded(const Change &change, Presence &presence, Problem &problem);
  template <class Visit>
  std::size_t visit_conflicts(const Change &change, Problem &problem, Visit visit);
  void tell_left_open();
  void settle();

  OwnedMutex mutex_;
  bool left_open_ = false;  // pages whose protection the kernel did not restore
  ObjectTable objects_;
  Layers layers_;
  NameNumbers names_;
  LastSearch last_search_;
  std::vector<LoadedPatch> patches_;
};

}  // namespace shunt::core
