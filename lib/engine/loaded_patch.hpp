// loaded_patch.hpp: a patch library that is in the process, applied or not; or is about to be: its constructors run while it is loaded,
// and objects that are loaded are redirected before that.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "objects/object_table.hpp"

namespace shunt::core {

/// Whether redirects may lead into code that can be unloaded. Changed with the engine held.
struct CodeLife {
  std::atomic<bool> is_loaded = true;
  std::atomic<std::uint32_t> uses = 0;                // transactions that led there, if only until they failed
  std::atomic<bool> may_be_called_by_others = false;  // slots or entries were left alone that others had written, or dlsym() handed it out
};

struct LoadedPatch {
  std::string linked;                // what the dynamic linker calls it: a descriptor
  std::string file;                  // what it is called
  std::vector<std::string> symbols;  // that it replaces: what it calls by these names are originals
  std::uintptr_t inside = 0;         // an address inside it, once it is loaded

  [[nodiscard]] bool is(const Object &object) const {
    return linked == object.linked && (inside == 0 || object.contains(inside));
  }
};

inline bool is_patch(std::span<const LoadedPatch> patches, const Object &object) {
  return std::any_of(patches.begin(), patches.end(), [&](const LoadedPatch &patch) { return patch.is(object); });
}

/// Is the object a patch that replaces the symbol itself?
inline bool replaces(std::span<const LoadedPatch> patches, const Object &object, const std::string &symbol) {
  return std::any_of(patches.begin(), patches.end(), [&](const LoadedPatch &patch) {
    return patch.is(object) && std::find(patch.symbols.begin(), patch.symbols.end(), symbol) != patch.symbols.end();
  });
}

}  // namespace shunt::core
