#include "elf/symbols.hpp"

#include <algorithm>
#include <cstring>

#include "elf/name_hash.hpp"

namespace shunt::core {
namespace {

constexpr Elf64_Half kVersionHidden = 0x8000;
constexpr Elf64_Half kVersionIndex = 0x7fff;

/// Calls `visit(index)` for every symbol of the object that the hash tables list under the name, until it answers true.
template <class Visit>
void for_each_candidate(const Image &image, const SymbolName &name, Visit visit) {
  const auto same_name = [&](std::uint32_t index) { return std::strcmp(image.symbol_name(index), name.text) == 0; };
  const std::uint32_t limit = image.symbol_limit();

  if (const std::uint32_t *header = image.gnu_hash()) {
    const std::uint32_t buckets = header[0], first = header[1], words = header[2], shift = header[3];
    const auto *bloom = image.at<std::uint64_t>(reinterpret_cast<std::uintptr_t>(header + 4), words);
    if (buckets == 0 || words == 0 || (words & (words - 1)) != 0 || bloom == nullptr || shift >= 32) return;
    const std::uint64_t word = bloom[(name.gnu_hash / 64) & (words - 1)];
    const std::uint64_t mask =
        (std::uint64_t{1} << (name.gnu_hash % 64)) | (std::uint64_t{1} << ((name.gnu_hash >> shift) % 64));
    if ((word & mask) != mask) return;
    const auto *bucket = image.at<std::uint32_t>(reinterpret_cast<std::uintptr_t>(bloom + words), buckets);
    if (bucket == nullptr) return;
    for (std::uint32_t index = bucket[name.gnu_hash % buckets]; index >= first && index < limit; ++index) {
      const auto *hash = image.at<std::uint32_t>(reinterpret_cast<std::uintptr_t>(bucket + buckets) +
                                                 std::uint64_t{index - first} * 4);
      if (hash == nullptr) return;
      if ((*hash | 1) == (name.gnu_hash | 1) && same_name(index) && visit(index)) return;
      if ((*hash & 1) != 0) return;
    }
    return;
  }
  if (const std::uint32_t *header = image.sysv_hash()) {
    const std::uint32_t buckets = header[0], chains = header[1];
    const auto *bucket =
        image.at<std::uint32_t>(reinterpret_cast<std::uintptr_t>(header + 2), std::uint64_t{buckets} + chains);
    if (buckets == 0 || bucket == nullptr) return;
    const std::uint32_t *chain = bucket + buckets;
    std::uint32_t index = bucket[name.sysv_hash % buckets];
    for (std::uint32_t steps = 0; index != STN_UNDEF && index < chains && index < limit && steps < chains; ++steps) {
      if (same_name(index) && visit(index)) return;
      index = chain[index];
    }
    return;
  }
  for (std::uint32_t index = 1; index < limit; ++index)
    if (same_name(index) && visit(index)) return;
}

/// Is there something that other objects may get to? An undefined symbol with a value is a program's PLT entry.
bool has_value_for_others(const Elf64_Sym &symbol) {
  const unsigned binding = symbol_binding(symbol), visibility = ELF64_ST_VISIBILITY(symbol.st_other);
  if (symbol.st_value == 0 && symbol.st_shndx != SHN_ABS && (symbol_type(symbol) != STT_TLS || !is_defined(symbol)))
    return false;
  if (visibility == STV_HIDDEN || visibility == STV_INTERNAL) return false;
  return binding == STB_GLOBAL || binding == STB_WEAK || binding == STB_GNU_UNIQUE;
}

/// Can a reference from another object be bound to this symbol at all?
bool is_offered(const Elf64_Sym &symbol) { return is_defined(symbol) && has_value_for_others(symbol); }

Elf64_Half version_index(const Image &image, std::uint32_t symbol) {
  const Image::Versions &versions = image.versions();
  return versions.symbols != nullptr && symbol < image.symbol_limit() ? versions.symbols[symbol]
                                                                      : Elf64_Half{VER_NDX_GLOBAL};
}

const char *definition_version_name(const Image &image, Elf64_Half wanted) {
  const Elf64_Verdef *definition = image.versions().definitions;
  for (std::uint32_t k = 0; definition != nullptr && k < image.versions().definitions_count; ++k) {
    const auto address = reinterpret_cast<std::uintptr_t>(definition);
    if ((definition->vd_ndx & kVersionIndex) == wanted) {
      const auto *first = definition->vd_cnt > 0 ? image.at<Elf64_Verdaux>(address + definition->vd_aux) : nullptr;
      return first != nullptr ? image.string(first->vda_name) : nullptr;
    }
    if (definition->vd_next == 0) break;
    definition = image.at<Elf64_Verdef>(address + definition->vd_next);
  }
  return nullptr;
}

}  // namespace

std::uint32_t name_hash_in_steps(const char *text, const char *readable_end) {
  std::uint64_t hash = 0;
  for (;; text += 32) {
    std::uint64_t folded[2];
    bool is_over = false;
    if (readable_end - text >= 32) {
      is_over = arch::name_fold(text, folded);
    } else {
      char last[32] = {};
      for (unsigned k = 0; text[k] != '\0'; ++k) last[k] = text[k];
      is_over = arch::name_fold(last, folded);
    }
    hash = name_hash_parts::mixed(hash, folded);
    if (is_over) return name_hash_parts::finished(hash);
  }
}

SymbolName::SymbolName(const char *name) : text(name) {
  const std::size_t length = std::strlen(name);
  index_hash = name_hash(name, name + length + 1);
  gnu_hash = 5381;
  for (const char *c = name; *c != '\0'; ++c) {
    gnu_hash = gnu_hash * 33 + static_cast<unsigned char>(*c);
    sysv_hash = (sysv_hash << 4) + static_cast<unsigned char>(*c);
    sysv_hash = (sysv_hash ^ ((sysv_hash & 0xf0000000U) >> 24)) & 0x0fffffffU;
  }
}

const char *needed_version(const Image &image, std::uint32_t symbol) {
  const Elf64_Half wanted = version_index(image, symbol) & kVersionIndex;
  if (wanted <= VER_NDX_GLOBAL) return nullptr;
  const Elf64_Verneed *need = image.versions().needs;
  // The lists of all needed objects together fit the object: a lie that makes them overlap does not multiply.
  std::size_t left = (image.high() - image.low()) / sizeof(Elf64_Vernaux);
  for (std::uint32_t k = 0; need != nullptr && k < image.versions().needs_count; ++k) {
    const auto address = reinterpret_cast<std::uintptr_t>(need);
    std::uintptr_t aux_address = address + need->vn_aux;
    for (unsigned a = 0; a < need->vn_cnt && left > 0; ++a, --left) {
      const auto *aux = image.at<Elf64_Vernaux>(aux_address);
      if (aux == nullptr) break;
      if ((aux->vna_other & kVersionIndex) == wanted) return image.string(aux->vna_name);
      if (aux->vna_next == 0) break;
      aux_address += aux->vna_next;
    }
    if (need->vn_next == 0) break;
    need = image.at<Elf64_Verneed>(address + need->vn_next);
  }
  // A reference to a symbol that the object itself defines carries the version of the definition.
  return definition_version_name(image, wanted);
}

const char *defined_version(const Image &image, std::uint32_t symbol) {
  const Elf64_Half wanted = version_index(image, symbol) & kVersionIndex;
  return wanted <= VER_NDX_GLOBAL ? nullptr : definition_version_name(image, wanted);
}

const Elf64_Sym *find_definition(const Image &image, const SymbolName &name, const char *version) {
  const Elf64_Sym *found = nullptr;
  const Elf64_Sym *only_default = nullptr;
  unsigned defaults = 0;
  const bool versioned = image.versions().symbols != nullptr && image.versions().definitions != nullptr;
  for_each_candidate(image, name, [&](std::uint32_t index) {
    const Elf64_Sym &symbol = image.symbol(index);
    if (!is_offered(symbol)) return false;
    const Elf64_Half tag = version_index(image, index);
    const Elf64_Half number = tag & kVersionIndex;
    if (!versioned) {
      found = &symbol;
    } else if (version != nullptr) {
      // The base version satisfies any reference, if it is not hidden.
      const char *has = number > VER_NDX_GLOBAL ? definition_version_name(image, number) : nullptr;
      if (has != nullptr ? std::strcmp(has, version) == 0 : (tag & kVersionHidden) == 0) found = &symbol;
    } else if (number <= 2) {
      found = &symbol;  // a reference without a version means the base or the first version of the object
    } else if ((tag & kVersionHidden) == 0 && defaults++ == 0) {
      only_default = &symbol;
    }
    return found != nullptr;
  });
  if (found != nullptr) return found;
  return defaults == 1 ? only_default : nullptr;
}

const Elf64_Sym *find_for_dlsym(const Image &image, const SymbolName &name, const char *version) {
  const Elf64_Sym *found = nullptr, *only_default = nullptr;
  unsigned defaults = 0;
  for_each_candidate(image, name, [&](std::uint32_t index) {
    const Elf64_Sym &symbol = image.symbol(index);
    if (!has_value_for_others(symbol)) return false;
    const Elf64_Half tag = version_index(image, index), number = tag & kVersionIndex;
    if (image.versions().symbols == nullptr) {
      found = &symbol;
    } else if (version != nullptr) {
      const char *const has = number > VER_NDX_GLOBAL ? needed_version(image, index) : nullptr;
      if (has != nullptr && std::strcmp(has, version) == 0) found = &symbol;
    } else if (number <= VER_NDX_GLOBAL) {
      found = &symbol;
    } else if ((tag & kVersionHidden) == 0 && defaults++ == 0) {
      only_default = &symbol;
    }
    return found != nullptr;
  });
  if (found != nullptr) return found;
  return defaults == 1 ? only_default : nullptr;
}

const Elf64_Sym *find_definition_at(const Image &image, const SymbolName &name, std::uintptr_t address) {
  const Elf64_Sym *found = nullptr;
  for_each_candidate(image, name, [&](std::uint32_t index) {
    const Elf64_Sym &symbol = image.symbol(index);
    if (is_offered(symbol) && (address == 0 || image.symbol_address(symbol) == address)) found = &symbol;
    return found != nullptr;
  });
  return found;
}

std::size_t find_definitions(const Image &image, const SymbolName &name, std::span<const Elf64_Sym *> found) {
  std::size_t count = 0;
  for_each_candidate(image, name, [&](std::uint32_t index) {
    const Elf64_Sym &symbol = image.symbol(index);
    const auto is_same = [&](const Elf64_Sym *other) {
      return image.symbol_address(*other) == image.symbol_address(symbol);
    };
    if (is_offered(symbol) && std::none_of(found.begin(), found.begin() + count, is_same)) found[count++] = &symbol;
    return count == found.size();
  });
  return count;
}

std::uintptr_t canonical_plt_address(const Image &image, const SymbolName &name) {
  std::uintptr_t address = 0;
  for_each_candidate(image, name, [&](std::uint32_t index) {
    const Elf64_Sym &symbol = image.symbol(index);
    if (!is_defined(symbol) && symbol.st_value != 0 && symbol_type(symbol) == STT_FUNC)
      address = image.symbol_address(symbol);
    return address != 0;
  });
  return address;
}

std::uint32_t symbol_count(const Image &image) {
  const std::uint32_t limit = image.symbol_limit();
  if (const std::uint32_t *header = image.sysv_hash()) return std::min(header[1], limit);
  const std::uint32_t *header = image.gnu_hash();
  if (header == nullptr) return limit;
  // The last chain ends the table: the one that starts highest, unless no bucket is used.
  const std::uint32_t buckets = header[0], first = header[1], words = header[2];
  const std::uintptr_t bucket_at = reinterpret_cast<std::uintptr_t>(header + 4) + std::uint64_t{words} * 8;
  const auto *bucket = image.at<std::uint32_t>(bucket_at, buckets);
  if (bucket == nullptr || buckets == 0) return 0;
  std::uint32_t last = *std::max_element(bucket, bucket + buckets);
  if (last < first) return std::min(first, limit);
  for (; last < limit; ++last) {
    const auto *hash = image.at<std::uint32_t>(bucket_at + (std::uint64_t{buckets} + (last - first)) * 4);
    if (hash == nullptr || (*hash & 1) != 0) break;
  }
  return std::min(last + 1, limit);
}

}  // namespace shunt::core
