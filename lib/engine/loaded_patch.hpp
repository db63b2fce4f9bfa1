// loaded_patch.hpp: a patch library that is in the process, applied or not.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "objects/object_table.hpp"

namespace shunt::core {

struct LoadedPatch {
  std::uintptr_t inside = 0;         // an address inside it
  std::string file;                  // what it is called; the dynamic linker knows only the number of a descriptor
  std::vector<std::string> symbols;  // that it replaces: what it calls by these names are originals
};

inline bool is_patch(std::span<const LoadedPatch> patches, const Object &object) {
  return std::any_of(patches.begin(), patches.end(),
                     [&](const LoadedPatch &patch) { return object.contains(patch.inside); });
}

/// Is the object a patch that replaces the symbol itself?
inline bool replaces(std::span<const LoadedPatch> patches, const Object &object, const std::string &symbol) {
  return std::any_of(patches.begin(), patches.end(), [&](const LoadedPatch &patch) {
    return object.contains(patch.inside) &&
           std::find(patch.symbols.begin(), patch.symbols.end(), symbol) != patch.symbols.end();
  });
}

}  // namespace shunt::core
