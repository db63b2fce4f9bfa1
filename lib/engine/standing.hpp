// standing.hpp: what is said about a change while it stands, as values that may outlive it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/layers.hpp"

namespace shunt::core {

struct StandingRedirect {
  std::string symbol;
  const char *provider;        // interned, as all paths here
  const char *replacement_in;  // the object that holds the replacement; "" none
  std::uintptr_t replacement;
  std::uint32_t slots;
  bool has_entry;
  std::uint32_t layer, layers;  // the layer-th of so many over the symbol, counted from 1, the oldest
  bool dlsym;                   // dlsym() answers with the replacement
  bool is_own;                  // shunt's own: of dlsym() itself
};

struct StandingObject {
  const char *path;
  std::uint32_t slots;
};

/// Or entry: then the address is that of the first byte that changed, and the words are the eight bytes there.
struct ConflictingSlot {
  std::shared_ptr<const Request> request;
  const char *object;
  const char *found_in;  // the object that what it holds lies in; "" none
  std::uintptr_t address, expected, found;
  bool is_entry;
};

struct StandingChange {
  static constexpr std::size_t kConflictsShown = 100;

  const Change *change = nullptr;  // to be compared only: it may be gone
  std::size_t entries = 0;
  std::vector<StandingRedirect> redirects;
  std::vector<StandingObject> objects;  // that are still loaded
  std::size_t conflicts = 0;
  std::vector<ConflictingSlot> conflicting;  // the first of them, when they were asked for
};

}  // namespace shunt::core
