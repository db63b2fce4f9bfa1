// planner.hpp: finds the slots that a transaction would write. Reads everything, writes nothing.
//
// Three steps. First, for each name, the relocations of that name in all objects: from the postings where the name was asked
// for before; otherwise object by object, all names against one object's index before the next, since what belongs to one
// object lies together. Then these are laid out object by object, since that is how they will be written. Then, what the
// slots hold. The common slot is bound to the function that the name's first slot was bound to, and costs one comparison;
// everything else takes the long way, classify().
#pragma once

#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/layers.hpp"
#include "engine/plan.hpp"
#include "engine/resolver.hpp"

namespace shunt::core {

/// Numbers for the names that were ever asked for, from 1: what postings know names by.
class NameNumbers {
 public:
  std::uint32_t of(const std::string &name) {
    return numbers_.try_emplace(name, static_cast<std::uint32_t>(numbers_.size()) + 1).first->second;
  }

 private:
  std::unordered_map<std::string, std::uint32_t> numbers_;
};

class Planner {
 public:
  /// Made outside the loader's lock: takes all memory that depends on the number of requests.
  Planner(ObjectTable &objects, const Layers &layers, NameNumbers &names, std::span<const std::uintptr_t> patches,
          Plan &plan);

  /// Only inside ObjectTable::while_locked(). On a Problem the plan is unfinished and must be thrown away.
  void run(Problem &problem);

 private:
  struct State {  // of one request, beside what the plan keeps
    std::uint32_t name_number = 0;
    std::uint32_t hash = 0;
    std::uint32_t filter = 0;
    std::uint32_t first_found = 0, found = 0;  // in sorted_, when the postings did not know the name
    std::uint32_t next_alike = 0;              // the next request with the same place in by_hash_, plus 1
    std::uint32_t last_span = UINT32_MAX;
    std::uintptr_t function = UINTPTR_MAX;  // what a slot of the common case holds; none, when all are to be looked at
    bool is_posted = false;
    bool shares_symbol = false;  // with another request of the transaction
    bool takes_any = false;      // neither a version nor a provider is asked for, and no layer of ours lies below
    bool has_resolved = false;  // `resolved` is the dynamic linker's answer for callers that ask for `resolved_version`
    bool is_the_only_one = false;  // and holds for callers that were loaded later as well
    const char *resolved_version = nullptr;
    Definition resolved;
  };
  /// What is known of an object in this plan, by its rank in the order of addresses.
  struct Place {
    std::uintptr_t low;
    std::uint32_t next;  // where its next slot goes
    std::uint32_t count;
  };
  struct Candidate {  // an entry whose hash is that of a request's name
    std::uint32_t request, entry;
  };
  struct Found {
    std::uint32_t request;
    Posting posting;
  };

  bool look_at_objects(Problem &problem);
  bool find_relocations(Problem &problem);
  bool search_object(std::uint32_t rank, bool everywhere, Problem &problem);
  void collect_candidates(const ImportIndex &index);
  bool confirm_candidates(std::uint32_t rank, const Object &object);
  bool keep_found(Problem &problem);
  [[nodiscard]] std::span<const Posting> relocations_of(std::uint32_t request) const;
  [[nodiscard]] bool is_chosen(std::uint32_t filter, std::uint32_t rank) const {
    return chosen_[filter * places_.size() + rank] != 0;
  }
  bool lay_out_postings(Problem &problem);
  bool lay_out_found(Problem &problem);
  [[nodiscard]] Slot laid_out(std::uint32_t request, Posting posting) const;
  bool read_slots(Problem &problem);
  void close_gaps();
  bool plan_special(std::uint32_t rank, bool is_plain, Slot &slot, Problem &problem);
  bool plan_self_slot(std::uint32_t request, Posting posting, Problem &problem);
  bool check_shared(Problem &problem);
  bool classify(Object &object, Slot &slot, const Relocation &relocation, Problem &problem);
  Definition search(Object &object, std::uint32_t request, const char *version);
  bool take_function(std::uint32_t request, const Object &caller, const Definition &definition, Problem &problem);
  bool check_replacement(std::uint32_t request, Problem &problem);
  void beside(std::uint32_t request, Beside what, const Object &object);
  [[nodiscard]] bool program_is_chosen(std::uint32_t request);
  void explain_nothing(std::uint32_t request, Problem &problem);

  ObjectTable &objects_;
  Resolver resolver_;
  const Layers &layers_;
  Plan &plan_;
  std::vector<State> states_;
  std::vector<const CallerFilter *> filters_;
  bool is_narrow_ = false;  // every request is for named callers: the rest need not be searched
  PageVector<Place> places_;
  PageVector<char> chosen_;  // by filter, then by rank
  std::vector<std::uint32_t> by_hash_;  // a request plus 1, by the upper bits of its name's hash
  std::uint32_t by_hash_shift_ = 0;
  bool has_alike_ = false;  // two names have one hash
  PageVector<Candidate> candidates_;  // of the object at work
  PageVector<Found> found_;  // object by object
  PageVector<Posting> sorted_;  // found_, name by name
};

}  // namespace shunt::core
