// planner.hpp: finds the slots that a transaction would write. Reads everything, writes nothing.
//
// Object by object in the order of their addresses, all requests against one object's index before the next: the index of an
// object is small and stays in the cache. The common slot is bound to the function that the request's first slot was bound
// to, and costs one comparison; everything else takes the long way, classify().
#pragma once

#include <span>
#include <vector>

#include "engine/layers.hpp"
#include "engine/plan.hpp"
#include "engine/resolver.hpp"

namespace shunt::core {

class Planner {
 public:
  /// Made outside the loader's lock: takes all memory that depends on the number of requests.
  Planner(ObjectTable &objects, const Layers &layers, std::span<const std::uintptr_t> patches, Plan &plan);

  /// Only inside ObjectTable::while_locked(). On a Problem the plan is unfinished and must be thrown away.
  void run(Problem &problem);

 private:
  struct State {  // of one request, beside what the plan keeps
    std::uint32_t filter = 0;
    std::uint32_t last_run = UINT32_MAX;
    bool shares_symbol = false;  // with another request of the transaction
    bool takes_any = false;  // neither a version nor a provider is asked for, and no layer of ours lies below
    // The program's answer for start-up callers, by the version asked for.
    const char *resolved_version = nullptr;
    bool has_resolved = false;
    Definition resolved;
  };

  bool plan_object(Object &object, Problem &problem);
  bool plan_slot(Object &object, std::uint32_t request, const Relocation &relocation, Problem &problem);
  bool plan_self_slot(const Object &object, std::uint32_t request, const Relocation &relocation, Problem &problem);
  bool classify(Object &object, std::uint32_t request, const Relocation &relocation, std::uintptr_t value, Problem &problem);
  Definition search(Object &object, std::uint32_t request, const char *version);
  bool take_function(std::uint32_t request, const Object &caller, const Definition &definition, Problem &problem);
  bool check_replacement(std::uint32_t request, Problem &problem);
  bool push(std::uint32_t request, const Relocation &relocation, std::uintptr_t value, std::uintptr_t after, bool is_lazy,
            bool is_self, Problem &problem);
  void beside(std::uint32_t request, Beside what, const Object &object);
  [[nodiscard]] bool program_is_chosen(std::uint32_t request);
  void explain_nothing(std::uint32_t request, Problem &problem);

  ObjectTable &objects_;
  Resolver resolver_;
  const Layers &layers_;
  Plan &plan_;
  std::vector<State> states_;
  std::vector<const CallerFilter *> filters_;
  std::vector<char> chosen_, seen_chosen_;  // by filter: this object; any object
};

}  // namespace shunt::core
