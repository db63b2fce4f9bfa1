// planner.hpp: finds the slots that a transaction would write. Reads everything, writes nothing.
//
// SlotFinder finds the slots by name; here is decided what they hold. The common slot is bound to the function that the first
// slot of its name was bound to, and costs one comparison; everything else takes the long way, classify().
#pragma once

#include <span>
#include <vector>

#include "engine/layers.hpp"
#include "engine/plan.hpp"
#include "engine/resolver.hpp"
#include "engine/slot_finder.hpp"

namespace shunt::core {

class Planner {
 public:
  /// Made outside the loader's lock: takes all memory that depends on the number of requests.
  /// `trusts`: the plan is written right away, and slots that were read for the last plan need not be read again.
  Planner(ObjectTable &objects, const Layers &layers, NameNumbers &names, LastSearch &last,
          std::span<const LoadedPatch> patches, bool trusts, Plan &plan);

  /// Only inside ObjectTable::while_locked(). On a Problem the plan is unfinished and must be thrown away.
  void run(Problem &problem);

  // These too, for requests whose functions were found in another way, or not at all.
  bool check_replacement(std::uint32_t request, Problem &problem);
  /// Why a request has no slot.
  void explain_nothing(std::uint32_t request, Problem &problem);

 private:
  struct Common {  // of one request, what every one of its slots needs: small, so that it stays in the cache
    std::uintptr_t function = UINTPTR_MAX;  // what a slot of the common case holds; none, when all are to be looked at
    std::uint32_t last_span = UINT32_MAX;
    std::uint32_t slots = 0, callers = 0;
  };
  struct State {                // of one request, beside that and what the plan keeps
    bool takes_any = false;     // neither a version nor a provider is asked for, and no layer of ours lies below
    bool has_resolved = false;  // `resolved` is the dynamic linker's answer for callers that ask for `resolved_version`
    bool is_the_only_one = false;  // and holds for callers that were loaded later as well
    const char *resolved_version = nullptr;
    Definition resolved;
  };

  void run_reading(Problem &problem);
  void run_trusting(Problem &problem);
  bool read_span(std::uint32_t number, Object &object, Problem &problem);
  void close_gaps();
  void find_without_slot(std::uint32_t request, Problem &problem);
  void see_providers();
  bool plan_special(Object &object, Slot &slot, Problem &problem);
  bool check_shared(Problem &problem);
  bool classify(Object &object, Slot &slot, const Relocation &relocation, Problem &problem);
  Definition search(Object &object, std::uint32_t request, const char *version);
  bool take_function(std::uint32_t request, const Object &caller, const Definition &definition, Problem &problem);
  void beside(std::uint32_t request, Beside what, const Object &object);
  [[nodiscard]] bool program_is_chosen(std::uint32_t request);

  ObjectTable &objects_;
  Resolver resolver_;
  SlotFinder finder_;
  const Layers &layers_;
  Plan &plan_;
  std::vector<Common> common_;
  std::vector<State> states_;
  bool trusts_;
  bool has_gaps_ = false;
};

}  // namespace shunt::core
