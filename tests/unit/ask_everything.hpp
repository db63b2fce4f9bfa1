// ask_everything.hpp: asks an image all that shunt ever asks one, for the tests and the fuzzer that hand in images that lie. There is
// no right answer; it must come in reasonable time, and from inside the image.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "elf/image.hpp"
#include "elf/symbols.hpp"
#include "objects/import_index.hpp"

namespace unit {

/// A number that depends on every answer, so that no question is optimised away.
inline std::uint64_t ask_everything(const shunt::core::Image &image) {
  using namespace shunt::core;
  constexpr std::uint32_t kAtMost = 512;  // of each kind: a lie about sizes may stand for a billion
  std::uint64_t answers = image.low() ^ image.high() ^ image.relro().end;
  const auto text = [&](const char *string) { answers += string == nullptr ? 1 : std::strlen(string); };

  text(image.soname());
  for (std::size_t k = 0; k < kAtMost && image.needed(k) != nullptr; ++k) text(image.needed(k));
  for (const std::uint8_t byte : image.build_id()) answers += byte;

  const auto look_up = [&](const char *name, const char *version) {
    const SymbolName wanted(name);
    answers += find_definition(image, wanted, version) != nullptr;
    answers += find_definition_at(image, wanted, image.base() + 1) != nullptr;
    answers += canonical_plt_address(image, wanted);
  };
  look_up("no_such_name", nullptr);
  look_up("no_such_name", "V1");
  for (std::uint32_t k = 0, count = std::min(symbol_count(image), kAtMost); k < count; ++k) {
    text(needed_version(image, k));
    text(defined_version(image, k));
    look_up(image.symbol_name(k), nullptr);
    look_up(image.symbol_name(k), defined_version(image, k));
  }

  static IndexArena arena;  // keeps its last pages
  Problem problem;
  HashSet asked;
  for (unsigned hash = 0; hash < 65536; hash += 8) asked.insert(static_cast<IndexHash>(hash));  // as good as all
  ImportIndex index = arena.build(
      image, &image, asked,
      [&](IndexHash hash, Image::RelocationRef, const char *name) { answers += hash + static_cast<unsigned>(*name); }, problem);
  index.for_each_in(asked, [&](IndexHash hash, Image::RelocationRef found) { answers += hash + found; });
  if (problem) return answers;
  for (unsigned table = 0; table < Image::kTables; ++table)
    for (std::uint32_t k = 0; k < std::min(image.table(table).count, kAtMost); ++k) {
      const Relocation one = image.relocation(table << Image::kTableShift | k);
      if (one.symbol >= image.symbol_limit()) continue;
      index.for_each(image, SymbolName(image.symbol_name(one.symbol)),
                     [&](Image::RelocationRef found) { answers += found; });
    }
  arena.free(index);
  return answers;
}

/// The same of a copy whose memory ends where the image ends, so that AddressSanitizer sees every byte too far.
inline std::uint64_t ask_exact_copy(const shunt::core::Image &image) {
  const std::size_t size = image.high() - image.low(), before = image.low() % 16;
  if (size > (std::size_t{1} << 20)) return 0;
  const std::unique_ptr<std::uint8_t[]> copy(new std::uint8_t[before + size]);
  std::memcpy(copy.get() + before, reinterpret_cast<const void *>(image.low()), size);
  const std::uintptr_t moved = reinterpret_cast<std::uintptr_t>(copy.get() + before) - image.low();
  shunt::core::Problem problem;
  const auto same = shunt::core::Image::parse(image.base() + moved, image.headers(), problem);
  return problem ? 0 : ask_everything(same);
}

}  // namespace unit
