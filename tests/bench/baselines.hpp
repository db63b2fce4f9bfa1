// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// baselines.hpp: what shunt is measured against.
#pragma once

#include "objects.hpp"

#include <vector>

namespace bench {

// Protection changes and nothing else: one pair of mprotect, to writable and back, over each span.
void change_protections(const std::vector<Span> &spans);

// The bare floor: what any search by name cannot do without. It visits all objects, reads every relocation, and of each
// that has a symbol the offset of its name and the name's first 8 bytes; it compares and keeps nothing. Then it changes
// protections. `spans` are relative to their objects and come from elsewhere, since finding them is the search itself.
enum class Floor {
  names,        // as said
  relocations,  // thinner: the relocation entries alone, no symbol and no name
};
void floor(Floor depth, std::vector<Span> spans);

// The naive loop, with its handles (`objects`) kept open: for each target, for each object, compares the name of every
// relocation, and opens and closes the page around each store.
struct Stored {
  const Object *object;
  std::uintptr_t slot;
  void *before;
};
std::vector<Stored> naive_apply(const std::vector<Object> &objects, const std::vector<Target> &targets);
void naive_undo(const std::vector<Stored> &stored);

}  // namespace bench
