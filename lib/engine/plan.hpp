// plan.hpp: what a transaction would write. Immutable once made; committing it copies what changes.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "arch/code.hpp"
#include "engine/request.hpp"
#include "slot/slot_list.hpp"

namespace shunt::core {

/// Why calls that a request could mean are not reached, or are reached in another way than by their slot.
enum class Beside : std::uint8_t {
  other_version,   // the import asks for another version than the request
  other_provider,  // it is bound to another provider than the request names
  unprovided,      // a weak import that nobody provides: the slot is 0
  canonical,       // holds the program's own PLT entry, whose slot is redirected
  unaligned,       // no word that can be stored in one piece
  text,            // a relocation in code
  far,             // more than 4 GiB behind the beginning of its object
  addend,          // points far behind the function, not to it
  foreign,         // taken, but held something that is no definition of the symbol: another tool's hook
  layered,         // taken from a layer of ours below
  lazy,            // taken, was not bound yet
  beneath,         // holds a layer of ours, and the request is for the entry only
  kCount
};

/// What a plan says of such slots: "were not bound yet".
const char *beside_text(Beside what);

/// Why the entry of a function is redirected, or is not.
enum class EntryWhy : std::uint8_t {
  slots_asked,    // reach=slots
  no_inner_call,  // not: nothing in its provider calls it itself, as far as can be seen
  for_some,       // not: the redirect is for some calls only
  refused,        // not: it cannot be; PlannedEntry says why
  inner_call,     // code of its provider calls it directly or takes its address, or seems to
  kept_address,   // data of its provider hold its address
  no_slot,        // nobody calls it through a slot
  entry_asked,    // reach=entry
};

/// What is known of an entry that is redirected, or cannot be.
struct PlannedEntry {
  bool is_chosen = false;
  ObjectId object = 0;             // that holds the function
  arch::EntryPlan plan;            // when it is chosen
  std::string why_not;             // a sentence without a subject: "is 3 bytes long ..."
  std::vector<std::string> names;  // all that the address has
  std::string names_from;          // where names were looked for
};

struct BesideCount {
  std::uint32_t count = 0;
  const char *example = "";  // path of one caller
};

/// What became of one request.
struct PlannedRedirect {
  std::uintptr_t function = 0;  // the real function, at the bottom; 0: nothing found
  std::uintptr_t original = 0;  // what a call of the original would reach: a layer below, or `function`
  const char *provider = "";    // path of the object that defines it
  std::uint32_t slots = 0;
  std::uint32_t callers = 0;       // objects
  std::uint32_t layers_below = 0;  // over the symbol, whether they cover these slots or not
  EntryWhy entry_why = EntryWhy::slots_asked;
  static constexpr std::uint32_t kNoEntry = UINT32_MAX;
  std::uint32_t entry = kNoEntry;             // in the plan's entries
  bool provider_calls_through_slots = false;  // the provider is itself among the callers
  bool stands_for_dlsym = false;              // without a slot: dlsym() answers with the replacement
  std::array<BesideCount, static_cast<std::size_t>(Beside::kCount)> beside = {};
};

struct UnreadObject {
  const char *path;
  const char *reason;
};

struct Plan {
  Requests requests;
  std::vector<PlannedRedirect> redirects;  // one for each request
  std::vector<PlannedEntry> entries;
  SlotList list;
  PageVector<SelfSlot> self_slots;
  PageVector<UnreadObject> unread;
  bool has_late = false;         // a slot that is_late
  bool is_trusted = false;       // what slots hold was read for an earlier plan
  std::uint64_t generation = 0;  // of the object table
  ObjectId objects_below = 0;    // objects that are loaded from now on have this id or a higher one
  std::unique_ptr<Plan>
      lookups;  // of the redirects of dlsym and dlvsym that come with it; NULL: none, or they stand already

  [[nodiscard]] std::string coverage() const;
  /// What was found out about the entry of the k-th redirect's function, when that was looked at; or NULL.
  [[nodiscard]] const PlannedEntry *known_entry(std::size_t k) const {
    const std::uint32_t entry = redirects[k].entry;
    return entry != PlannedRedirect::kNoEntry ? &entries[entry] : nullptr;
  }
  /// The entry that the k-th redirect would write, or NULL.
  [[nodiscard]] const PlannedEntry *entry_of(std::size_t k) const {
    const PlannedEntry *const entry = known_entry(k);
    return entry != nullptr && entry->is_chosen ? entry : nullptr;
  }
  [[nodiscard]] std::size_t entry_count() const;
  /// Why the k-th redirect has an entry, or none: half a sentence, "" when none was asked for. All names of its address.
  [[nodiscard]] std::string entry_why(std::size_t k) const;
  [[nodiscard]] std::string entry_names(std::size_t k) const;
  /// Whether the k-th redirect would write anything.
  [[nodiscard]] bool does(std::size_t k) const {
    return redirects[k].slots > 0 || entry_of(k) != nullptr || redirects[k].stands_for_dlsym;
  }
  [[nodiscard]] bool is_empty() const;
  [[nodiscard]] std::uintptr_t before(const Slot &slot) const {
    return list.before(slot, redirects[slot.redirect].function);
  }
};

}  // namespace shunt::core
