// plan.hpp: what a transaction would write. Immutable once made; committing it copies what changes.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

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
  kCount
};

/// What a plan says of such slots: "were not bound yet".
const char *beside_text(Beside what);

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
  std::uint32_t callers = 0;                  // objects
  std::uint32_t layers_below = 0;             // over the symbol, whether they cover these slots or not
  bool provider_calls_through_slots = false;  // the provider is itself among the callers
  std::array<BesideCount, static_cast<std::size_t>(Beside::kCount)> beside = {};
};

struct UnreadObject {
  const char *path;
  const char *reason;
};

struct Plan {
  Requests requests;
  std::vector<PlannedRedirect> redirects;  // one for each request
  SlotList list;
  PageVector<SelfSlot> self_slots;
  PageVector<UnreadObject> unread;
  bool has_late = false;         // a slot that is_late
  bool is_trusted = false;       // what slots hold was read for an earlier plan
  std::uint64_t generation = 0;  // of the object table

  [[nodiscard]] std::string coverage() const;
  [[nodiscard]] std::uintptr_t before(const Slot &slot) const {
    return list.before(slot, redirects[slot.redirect].function);
  }
};

}  // namespace shunt::core
