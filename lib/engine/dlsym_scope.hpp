// dlsym_scope.hpp: what dlsym() finds where that depends on who calls it (dlsym(3), RTLD_DEFAULT and RTLD_NEXT).
//
// RTLD_DEFAULT is the search for an import of the calling object: the program's objects and what was loaded with RTLD_GLOBAL, then
// what came with the object itself: whatever was loaded by the same dlopen(), breadth first. RTLD_NEXT is the rest of
// such a list behind the caller: of the program's, or of what came with it.
//
// The dynamic linker keeps for each object who brought it in. From outside: whoever needs an object and is in front of it in the list
// of objects brought it in, since what is needed is loaded at once, behind. What cannot be told is what RTLD_GLOBAL added to the program's
// objects, and in which order; that is left to be asked.
#pragma once

#include <cstdint>

#include "elf/symbols.hpp"
#include "objects/object_table.hpp"

namespace shunt::core {

/// Plain data, so that it can be looked at when the loader's lock is not held any more.
struct DlsymFound {
  const Elf64_Sym *symbol = nullptr;  // to be compared; NULL: nothing
  std::uintptr_t address = 0;
  bool is_resolver = false;  // of an IFUNC, at `address`

  [[nodiscard]] bool is_there() const { return symbol != nullptr; }
  /// What dlsym() answers. Runs the resolver, so the loader's lock must not be held.
  [[nodiscard]] std::uintptr_t value() const;
};

/// Only inside ObjectTable::while_locked().
class DlsymScope {
 public:
  /// `version`: NULL for dlsym().
  DlsymScope(ObjectTable &objects, const SymbolName &name, const char *version)
      : objects_(objects), name_(name), version_(version) {}

  [[nodiscard]] bool came_with_program(const Object &object) { return position(object) < objects_.startup_count(); }
  [[nodiscard]] DlsymFound in(const Object &object) const;
  /// In the objects that came with the program, those behind `behind` (NULL: all).
  DlsymFound in_program(const Object *behind);
  /// In what came with an object that was loaded later, itself included; in what is behind the object itself.
  DlsymFound with(const Object &object) { return in_list_of(object, nullptr); }
  DlsymFound behind(const Object &object) { return in_list_of(object, &object); }

 private:
  [[nodiscard]] std::size_t position(const Object &object) {
    return static_cast<std::size_t>(&object - objects_.in_load_order().data());
  }
  [[nodiscard]] std::size_t brought_in_by(std::size_t position);
  DlsymFound in_list_of(const Object &object, const Object *behind);

  ObjectTable &objects_;
  const SymbolName &name_;
  const char *version_;
};

}  // namespace shunt::core
