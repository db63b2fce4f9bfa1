#include "engine/resolver.hpp"

#include <algorithm>

#include "arch/native.hpp"

namespace shunt::core {

std::uintptr_t function_address(const Object &provider, const Elf64_Sym &symbol) {
  const std::uintptr_t address = provider.image.symbol_address(symbol);
  if (symbol_type(symbol) != STT_GNU_IFUNC || !provider.image.is_code(address)) return address;
  return arch::Native::run_resolver(address);
}

bool Resolver::is_searched(const Object &object) const {
  return object.is_readable && !object.is_vdso && !is_patch(patches_, object);
}

Definition Resolver::at(const SymbolName &name, std::uintptr_t address) {
  Definition definition;
  definition.provider = objects_.at(address);
  if (definition.provider == nullptr || !definition.provider->is_readable || definition.provider->is_vdso)
    return definition;
  const Image &image = definition.provider->image;
  definition.symbol = find_definition_at(image, name, address);
  if (definition.symbol == nullptr) {
    const Elf64_Sym *any = find_definition_at(image, name, 0);
    if (any != nullptr && symbol_type(*any) == STT_GNU_IFUNC && function_address(*definition.provider, *any) == address)
      definition.symbol = any;
  }
  if (definition.symbol != nullptr) {
    definition.state = Definition::State::found;
    definition.address = address;
  }
  return definition;
}

Definition Resolver::in_object(const Object &object, const SymbolName &name, const char *version) const {
  Definition definition;
  // Nobody is ever bound to an object without a hash table: the dynamic linker passes over it.
  if (!is_searched(object) || (object.image.gnu_hash() == nullptr && object.image.sysv_hash() == nullptr))
    return definition;
  definition.symbol = find_definition(object.image, name, version);
  if (definition.symbol == nullptr) return definition;
  definition.state = Definition::State::found;
  definition.provider = &object;
  return definition;
}

Definition Resolver::only_one(const SymbolName &name, const char *version) {
  Definition only;
  for (const Object &object : objects_.in_load_order()) {
    const Definition one = in_object(object, name, version);
    if (one.state != Definition::State::found) continue;
    if (only.state == Definition::State::found) return {};
    only = one;
  }
  if (only.state == Definition::State::found) only.address = function_address(*only.provider, *only.symbol);
  return only;
}

Definition Resolver::in_startup_objects(const SymbolName &name, const char *version) {
  for (const Object &object : objects_.in_load_order().first(objects_.startup_count()))
    if (Definition found = in_object(object, name, version); found.state == Definition::State::found) return found;
  return {};
}

Definition Resolver::in_dependencies(Object &caller, const SymbolName &name, const char *version) {
  const std::span<Object> all = objects_.in_load_order();
  dependencies_.clear();
  if (!dependencies_.push_back(static_cast<std::uint32_t>(&caller - all.data()))) return {};
  for (std::size_t k = 0; k < dependencies_.size(); ++k) {
    const Object &object = all[dependencies_[k]];
    if (Definition found = in_object(object, name, version); found.state == Definition::State::found) return found;
    for (std::size_t n = 0;; ++n) {
      const char *needed = object.image.needed(n);
      if (needed == nullptr) break;
      const auto position = static_cast<std::uint32_t>(objects_.position_of_needed(needed));
      if (position < all.size() &&
          std::find(dependencies_.begin(), dependencies_.end(), position) == dependencies_.end() &&
          !dependencies_.push_back(position))
        return {};
    }
  }
  return {};
}

Definition Resolver::search(Object &caller, const SymbolName &name, const char *version) {
  using State = Definition::State;
  const auto finish = [](Definition found) {
    if (found.state == State::found) found.address = function_address(*found.provider, *found.symbol);
    return found;
  };
  const auto ambiguous = [](const Definition &a, const Definition &b) {
    return Definition{State::ambiguous, a.provider, b.provider, nullptr, 0};
  };
  if (caller.image.binds_symbolically())
    if (Definition own = in_object(caller, name, version); own.state == State::found) return finish(own);

  const Definition of_program = in_startup_objects(name, version);
  const std::span<Object> all = objects_.in_load_order();
  const bool is_startup = static_cast<std::size_t>(&caller - all.data()) < objects_.startup_count();
  if (is_startup && of_program.state == State::found) return finish(of_program);

  const Definition own = is_startup ? Definition() : in_dependencies(caller, name, version);
  if (of_program.state == State::found) {
    if (own.state != State::found || own.symbol == of_program.symbol) return finish(of_program);
    switch (scope_seen_in(caller)) {
      case Scope::program_first:
        return finish(of_program);
      case Scope::own_first:
        return finish(own);
      case Scope::unknown:
        return ambiguous(of_program, own);
    }
  }
  // Neither the program nor (so far) anybody else: objects that were loaded later, perhaps with RTLD_GLOBAL.
  Definition found = own;
  for (const Object &object : all.subspan(std::min(objects_.startup_count(), all.size()))) {
    const Definition one = in_object(object, name, version);
    if (one.state != State::found || one.symbol == found.symbol) continue;
    if (found.state == State::found) return ambiguous(found, one);
    found = one;
  }
  return finish(found);
}

/// Some slot of the object that is bound already, and whose symbol both the program and the object's own dependencies
/// define, shows where the dynamic linker looks first for this object.
Resolver::Scope Resolver::scope_seen_in(Object &caller, std::span<const Replaced> replaced) {
  const Image &image = caller.image;
  for (unsigned t = 0; t < Image::kTables; ++t) {
    for (std::uint32_t k = 0; k < image.table(t).count; ++k) {
      const Relocation relocation = image.relocation(t << Image::kTableShift | k);
      if (relocation.kind != arch::RelocKind::jump_slot && relocation.kind != arch::RelocKind::glob_dat) continue;
      if (relocation.symbol == STN_UNDEF || relocation.symbol >= image.symbol_limit()) continue;
      const Elf64_Phdr *segment = image.segment_at(relocation.place, sizeof(std::uintptr_t));
      if (segment == nullptr || (segment->p_flags & PF_R) == 0 || relocation.place % sizeof(std::uintptr_t) != 0)
        continue;
      const SymbolName name(image.symbol_name(relocation.symbol));
      const char *version = needed_version(image, relocation.symbol);
      const Definition of_program = in_startup_objects(name, version);
      const Definition own = in_dependencies(caller, name, version);
      if (of_program.symbol == nullptr || own.symbol == nullptr || of_program.symbol == own.symbol) continue;
      std::uintptr_t value = *reinterpret_cast<const std::uintptr_t *>(relocation.place);
      for (const Replaced &one : replaced)
        if (one.by == value) value = one.function;
      if (value == of_program.provider->image.symbol_address(*of_program.symbol)) return Scope::program_first;
      if (value == own.provider->image.symbol_address(*own.symbol)) return Scope::own_first;
    }
  }
  return Scope::unknown;
}

}  // namespace shunt::core
