// resolver.hpp: which function a slot is bound to, or would be when the dynamic linker gets to it.
//
// A slot that is bound holds the answer. One that is not yet bound holds the address of a stub in its own object, which must
// never pass for the function: calling it makes the dynamic linker write the slot and so undo a redirect. For those the
// dynamic linker's search is repeated here: the objects that came with the program in load order, then, for an object that
// was loaded later, that object and what it needs, breadth first (gABI 5, "Shared Object Dependencies"; dlopen(3)).
//
// What cannot be seen from outside the dynamic linker is whether an object was loaded with RTLD_DEEPBIND (its own
// dependencies first) or RTLD_GLOBAL (seen by all). Where that would make a difference, slots of the same object that are
// bound already are asked; where there is none to ask, the answer is `ambiguous`, and the plan is refused.
#pragma once

#include <cstdint>
#include <span>

#include "elf/symbols.hpp"
#include "engine/loaded_patch.hpp"
#include "objects/object_table.hpp"

namespace shunt::core {

struct Definition {
  enum class State { none, found, ambiguous };
  State state = State::none;
  const Object *provider = nullptr;
  const Object *other = nullptr;  // ambiguous: the second candidate
  const Elf64_Sym *symbol = nullptr;
  std::uintptr_t address = 0;  // of the function: an IFUNC's resolver has been run
};

/// Only inside ObjectTable::while_locked().
class Resolver {
 public:
  /// What patches export is not searched: those are replacements.
  Resolver(ObjectTable &objects, std::span<const LoadedPatch> patches) : objects_(objects), patches_(patches) {}

  /// The definition of `name` that lies at `address` in the object that holds it: what a bound slot leads to.
  Definition at(const SymbolName &name, std::uintptr_t address);

  /// Can the object define what another one calls? Patches and the vDSO cannot.
  [[nodiscard]] bool is_searched(const Object &object) const;

  /// The definition, when a single object of the process has one: then every search ends there. None otherwise.
  Definition only_one(const SymbolName &name, const char *version);

  /// What the dynamic linker finds for an import of `caller` that asks for `version` (NULL: none).
  Definition search(Object &caller, const SymbolName &name, const char *version);

  /// Where the dynamic linker looks first for an object that was loaded later, as far as a slot of it shows that.
  enum class Scope { unknown, program_first, own_first };
  struct Replaced {  // slots that lead to `by` led to `function`
    std::uintptr_t by, function;
  };
  Scope scope_seen_in(Object &caller, std::span<const Replaced> replaced = {});

 private:
  Definition in_object(const Object &object, const SymbolName &name, const char *version) const;
  Definition in_dependencies(Object &caller, const SymbolName &name, const char *version);
  Definition in_startup_objects(const SymbolName &name, const char *version);

  ObjectTable &objects_;
  std::span<const LoadedPatch> patches_;
  PageVector<std::uint32_t> dependencies_;  // of the object looked at last
};

/// The address that callers use: of an IFUNC what its resolver answers.
std::uintptr_t function_address(const Object &provider, const Elf64_Sym &symbol);

}  // namespace shunt::core
