// engine.hpp: one for the process. Plans, commits and reverts, each of them all or nothing, one at a time.
//
// The order of a commit: memory first, and trampolines, which nobody calls yet; then, with the loader's lock held: see that the
// planned objects are still there; tell the replacements their originals; then object by object (writer.hpp) open its pages,
// store its slots if they still hold what the plan saw, close its pages; last the entries (entry/entries.hpp), all at once, since
// a thread may be in the way of those. What fails on the way is undone on the spot. No malloc and no log in between.
//
// A thread in the way is waited for kThreadWait at most, and the loader's lock is held meanwhile: a thread that waits for that lock
// while it is in the way itself makes the transaction be refused, not hang.
//
// Trampolines stay for the life of the process: a replacement that was reverted may still be running and call its original.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/owned_mutex.hpp"
#include "base/result.hpp"
#include "engine/dlsym_answers.hpp"
#include "engine/imports.hpp"
#include "engine/late_objects.hpp"
#include "engine/layers.hpp"
#include "engine/loaded_patch.hpp"
#include "engine/object_codes.hpp"
#include "engine/outside.hpp"
#include "engine/plan.hpp"
#include "engine/planner.hpp"
#include "engine/standing.hpp"
#include "objects/interner.hpp"
#include "objects/object_table.hpp"

namespace shunt::core {

struct Presence;

class Engine {
 public:
  /// The process's engine. Made on first use, never destroyed: redirects may stand until the very end.
  static Engine &instance();

  static constexpr std::uint64_t kThreadWait = 2'000'000'000;  // nanoseconds
  static constexpr std::time_t kLoadWait = 3;                  // seconds: longer than a transaction waits for threads

  Result<std::unique_ptr<Plan>> plan(const Requests &requests);
  Result<std::unique_ptr<Change>> commit(const Plan &plan);
  Result<std::unique_ptr<Change>> apply(const Requests &requests);
  Result<Done> revert(Change &change);

  /// Slots that hold neither the change's value nor that of a layer above it, and entries that somebody else changed.
  std::size_t conflicts(Change &change);

  /// Somebody may keep the address of a replacement that dlsym() answered with, or be about to get it: its code must stay. After a revert,
  /// what is about to come passes.
  bool may_have_given(const Requests &requests);

  /// The changes that stand, oldest first. `with_slots`: also which slots hold something else.
  Result<std::vector<StandingChange>> standing(bool with_slots);

  /// From now on, and for the life of the process, objects that are loaded get the redirects that stand before the first of their
  /// constructors runs; until then they get them when the engine is asked next. Waits for loads of other threads to end.
  Result<Done> watch_loads();
  /// How objects that are loaded from now on get the redirects that stand.
  struct LaterObjects {
    bool are_watched = false;          // before their constructors; else when shunt is asked next
    std::size_t other_namespaces = 0;  // those of dlmopen, which are not reached at all
  };
  LaterObjects later_objects();

  /// The imports of the loaded objects, where both globs match: the symbols and the callers. Empty lists match everything.
  Result<ImportList> imports(const std::vector<std::string> &symbols, const std::vector<std::string> &callers);

  /// Makes a patch library known, before it is loaded: what it exports is a replacement, never an original, and what it calls by the
  /// names that it replaces are originals.
  void add_patch(LoadedPatch patch);
  /// It is loaded: there.
  void place_patch(const std::string &linked, std::uintptr_t inside);
  void remove_patch(const std::string &linked);

  enum class Ended : std::uint8_t { yes, refused, redirected, busy };
  /// Before the code in [begin, end) is unloaded: no redirect leads into it, and `is_free()`, which is asked with the engine held,
  /// agrees. From then on none can: whoever commits an old plan is told so. `redirected`: `symbol` is one that leads there.
  Ended end_life(CodeLife &life, std::uintptr_t begin, std::uintptr_t end, const std::function<bool()> &is_free,
                 std::string &symbol);

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
    explicit Guard(Engine &engine) : OwnedMutex::Guard(free_of_loads(engine).mutex_) {}
    /// On a thread that loads objects. Whoever holds the engine may be waiting for the dynamic linker, when it came to an allocator that
    /// asks it something: then this gives up.
    Guard(Engine &engine, std::time_t seconds) : OwnedMutex::Guard(engine.mutex_, seconds) {}
    static Engine &free_of_loads(Engine &engine);
    [[nodiscard]] static Problem problem();
  };

  Engine();
  void make_plan(Plan &plan, bool trusts, Outside &outside, Problem &problem);
  void finish_plan(Plan &plan);
  Result<std::unique_ptr<Change>> apply_held(const Requests &requests, Outside &outside);
  Result<std::unique_ptr<Change>> commit_prepared(std::unique_ptr<Change> change, const Plan &plan, Outside &outside);
  Result<std::unique_ptr<Change>> commit_answering(std::unique_ptr<Change> change, const Plan &plan, Outside &outside);
  Result<Done> revert_held(Change &change);
  Result<Done> revert_answering(Change &change);
  void plan_lookups(Plan &plan, Outside &outside, Problem &problem);
  void renew_answers();
  void drop_lookups();
  bool prepare_entries(Change &change, const Plan &plan, Outside &outside, Problem &problem);
  void write(Change &change, std::uint64_t generation, const std::vector<Layers::NewOriginal> &others,
             PageVector<EntryStep> &steps, Problem &problem);
  void take_out(Change &change, const std::vector<Layers::NewOriginal> &others, PageVector<EntryStep> &steps,
                Problem &problem);
  bool is_loaded(const ChangeRedirect &redirect);
  static void tell_threads(const EntryReport &report);
  void drop_unloaded();
  bool see_which_are_loaded(const Change &change, Presence &presence, Problem &problem);
  template <class Visit>
  std::size_t visit_conflicts(const Change &change, Problem &problem, Visit visit);
  void tell_left_open();
  void adopt_new();
  bool lead_notice(Problem &problem);
  static void on_load();
  void settle();
  void settle_if_possible();

  OwnedMutex mutex_;
  std::uintptr_t own_sp_ = 0;  // with the engine held: below it are frames of shunt's, above those of whoever called it
  bool left_addresses_ = false;  // of code, on the stack below
  bool left_open_ = false;       // pages whose protection the kernel did not restore
  ObjectTable objects_;
  Layers layers_;
  NameNumbers names_;
  LastSearch last_search_;
  std::vector<LoadedPatch> patches_;
  std::unique_ptr<Change> lookups_;  // leads dlsym() here; NULL: no redirect that stands asks for answers
  LateObjects late_{objects_, layers_, patches_};
  ObjectId adopted_below_ = 0;            // objects with a smaller id were looked at for all changes
  std::uint64_t adopted_generation_ = 0;  // of the object table
  bool is_watching_ = false;
  Entries entries_;
  ObjectCodes codes_;
  Interner entry_names_;          // symbols of entries_
  std::uint64_t codes_seen_ = 0;  // generation of the object table in which all of codes_ were there
};

}  // namespace shunt::core
