// symbols.hpp: looking a name up in one object, with its version, as the dynamic linker does.
//
// Sources: System V ABI 5 (DT_HASH); the GNU hash section as binutils and glibc agree on it (Bloom filter, buckets, chains
// that end with an odd hash); symbol versioning: LSB Core, "Symbol Versioning". Every walk is bounded by the tables' sizes.
#pragma once

#include <cstdint>
#include <span>

#include "elf/image.hpp"

namespace shunt::core {

/// A name to look up, with its hashes made once.
struct SymbolName {
  const char *text = "";
  std::uint32_t index_hash = 0;  // name_hash.hpp
  std::uint32_t gnu_hash = 0;
  std::uint32_t sysv_hash = 0;

  explicit SymbolName(const char *name);
};

/// The version that an import of the object asks for, or NULL when it asks for none.
const char *needed_version(const Image &image, std::uint32_t symbol);

/// The version that a definition of the object has, or NULL.
const char *defined_version(const Image &image, std::uint32_t symbol);

/// The definition that a reference to `name` with `version` (NULL: none) is bound to when the dynamic linker finds it in
/// this object; NULL when it passes this object by.
const Elf64_Sym *find_definition(const Image &image, const SymbolName &name, const char *version);

/// What dlsym() (`version` NULL) or dlvsym() finds in this object. That differs from a reference: without a version the default one is
/// meant, not the first; with one, a symbol that has none will not do; and a program's PLT entry that stands for the function in the
/// whole process counts as its definition.
const Elf64_Sym *find_for_dlsym(const Image &image, const SymbolName &name, const char *version);

/// A definition of `name` at `address` in this object, whatever its version; or, when `address` is 0, any. NULL when there
/// is none.
const Elf64_Sym *find_definition_at(const Image &image, const SymbolName &name, std::uintptr_t address);

/// The first definitions of `name` in this object that lie at different addresses; how many. Several versions may be several functions.
std::size_t find_definitions(const Image &image, const SymbolName &name, std::span<const Elf64_Sym *> found);

/// Where a non-PIE executable gives an imported function its canonical address (the PLT entry that `&function` is equal to
/// in the whole process): that address, or 0.
std::uintptr_t canonical_plt_address(const Image &image, const SymbolName &name);

/// How many symbols the hash table says there are; without one, as many as fit. Never more than symbol_limit().
std::uint32_t symbol_count(const Image &image);

inline unsigned symbol_type(const Elf64_Sym &symbol) { return ELF64_ST_TYPE(symbol.st_info); }
inline unsigned symbol_binding(const Elf64_Sym &symbol) { return ELF64_ST_BIND(symbol.st_info); }
inline bool is_defined(const Elf64_Sym &symbol) { return symbol.st_shndx != SHN_UNDEF; }

}  // namespace shunt::core
