// entry_planner.hpp: the second half of planning: whether the entry of each function is redirected as well, and why. Functions
// that have no slot are found here, by name or address.
//
// Automatic means: slots are enough where nothing inside the function's own object calls it beside them. That is asked of two
// bits: all direct jumps and calls in the object's code were noted once (arch/jump_targets.hpp). Rather too many than too few, since
// bytes are looked at without knowing where instructions begin: of functions that nobody calls, one in twelve seems to be called by
// one of the shortest jumps. What is not seen: a pointer to the function that the object itself made (a table, a comparison, a
// callback that it hands out), since nearly every function of a C++ program is in one; who means those calls too asks for the entry.
//
// An entry reaches every call, under every name. So it is not for a redirect of some callers only, and all names of the address
// must have been meant.
//
// All of it happens with the engine held and the loader's lock not; where that lock is needed it is taken for a moment. What
// only the dynamic linker can give is asked of Outside: where that is wanting, the plan is to be made anew.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "engine/layers.hpp"
#include "engine/object_codes.hpp"
#include "engine/outside.hpp"
#include "engine/plan.hpp"

namespace shunt::core {

class EntryPlanner {
 public:
  EntryPlanner(ObjectTable &objects, ObjectCodes &codes, const Entries &entries, std::span<const LoadedPatch> patches,
               Outside &outside, Plan &plan)
      : objects_(objects),
        entries_(entries),
        patches_(patches),
        outside_(outside),
        plan_(plan),
        reader_(objects, codes, patches, outside) {}

  /// Decides for each request. On a Problem, or when `outside` is wanting, the plan must be thrown away.
  void run(Problem &problem);

 private:
  struct Candidate {
    std::uintptr_t function;
    const char *path;
    std::string name;
  };
  static constexpr std::size_t kCandidatesShown = 8;

  void decide(std::uint32_t k, Problem &problem);
  EntryWhy inner_use(std::uint32_t k, Problem &problem);
  void plan_entry(std::uint32_t k, EntryWhy why, Problem &problem);
  std::string why_not(std::uint32_t k, PlannedEntry &entry, Problem &problem);
  std::string why_not_its_names(std::uint32_t k, KnownCode &code, PlannedEntry &entry) const;
  [[nodiscard]] bool is_accepted(std::uint32_t k, const std::string &name) const;
  void check_twice(std::uint32_t k, Problem &problem) const;

  void find_function(std::uint32_t k, Problem &problem);
  bool find_exported(std::uint32_t k, std::vector<Candidate> &found, Problem &problem);
  bool find_static(std::uint32_t k, std::vector<Candidate> &found, Problem &problem);
  bool find_address(std::uint32_t k, std::vector<Candidate> &found, Problem &problem);
  void tell_several(std::uint32_t k, const std::vector<Candidate> &found, Problem &problem) const;

  ObjectTable &objects_;
  const Entries &entries_;
  std::span<const LoadedPatch> patches_;
  Outside &outside_;
  Plan &plan_;
  CodeReader reader_;
};

}  // namespace shunt::core
