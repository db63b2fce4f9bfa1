// What a patch file exports and needs, as far as it is looked at before the dynamic linker sees the file.
//
// Shown to fail: exports.cpp without the look at the symbol's type, binding or visibility, or at _init and _fini;
// undefined_symbols() naming weak ones; ManyMutationsDoNoHarm: Image::string() (lib/elf/image.hpp) without its bounds.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "elf/file_image.hpp"
#include "elf_writer.hpp"
#include "patch/exports.hpp"

namespace {

using namespace shunt::core;

constexpr bool kDefined = true;

unit::Elf patch_file() {
  return unit::ElfWriter::write({
      .symbols = {{"needed_strong"},
                  {.name = "needed_weak", .binding = STB_WEAK},
                  {"strong", kDefined},
                  {.name = "resolved", .is_defined = true, .type = STT_GNU_IFUNC},
                  {.name = "weak", .is_defined = true, .binding = STB_WEAK},
                  {.name = "data", .is_defined = true, .type = STT_OBJECT},
                  {.name = "hidden", .is_defined = true, .visibility = STV_HIDDEN},
                  {"_init", kDefined},
                  {"_fini", kDefined}},
      .relocs = {{.symbol = 0}},
  });
}

void write_to(const Fd &file, const unit::Elf &elf) {
  ASSERT_EQ(ftruncate(file.get(), 0), 0);
  ASSERT_EQ(pwrite(file.get(), elf.bytes.data(), elf.bytes.size(), 0), static_cast<ssize_t>(elf.bytes.size()));
}

Fd memory_file() { return Fd(memfd_create("patch", MFD_CLOEXEC)); }

TEST(PatchExports, AreItsStrongFunctions) {
  const Fd file = memory_file();
  write_to(file, patch_file());
  const auto image = FileImage::read(file.get(), "patch.so");
  ASSERT_TRUE(image) << image.error().message;

  const auto chosen = choose_replacements(image->image(), "patch.so", {});

  ASSERT_TRUE(chosen);
  ASSERT_EQ(chosen->size(), 2U);
  EXPECT_EQ((*chosen)[0].symbol, "strong");
  EXPECT_EQ((*chosen)[1].symbol, "resolved");
  EXPECT_EQ(undefined_symbols(image->image()), std::vector<std::string>{"needed_strong"});
}

TEST(PatchExports, AreNamedOnlyWhenTheyAreFunctions) {
  const Fd file = memory_file();
  write_to(file, patch_file());
  const auto image = FileImage::read(file.get(), "patch.so");
  ASSERT_TRUE(image) << image.error().message;

  EXPECT_TRUE(choose_replacements(image->image(), "patch.so", {"weak", "other=strong"}));
  for (const std::string name : {"data", "hidden", "needed_strong", "_init", "nothing", ""}) {
    const auto chosen = choose_replacements(image->image(), "patch.so", {name});
    ASSERT_FALSE(chosen) << name;
    EXPECT_EQ(chosen.error().code, Code::unknown_symbol);
    EXPECT_EQ(chosen.error().symbol, name);
  }
}

TEST(PatchExports, ManyMutationsDoNoHarm) {
  const char *given = std::getenv("SHUNT_SEED");
  const auto seed =
      given != nullptr ? static_cast<std::uint32_t>(std::strtoul(given, nullptr, 0)) : std::random_device()();
  std::printf("SHUNT_SEED=%u\n", seed);
  std::fflush(stdout);  // known also after a crash
  std::mt19937 random(seed);
  const Fd file = memory_file();
  unsigned believed = 0;

  for (int round = 0; round < 10000; ++round) {
    unit::Elf elf = patch_file();
    for (unsigned flips = 1 + random() % 4; flips > 0; --flips)
      elf.bytes[random() % elf.bytes.size()] ^= static_cast<std::uint8_t>(1U << random() % 8);
    write_to(file, elf);
    const auto image = FileImage::read(file.get(), "mutated.so");
    if (!image) continue;
    ++believed;
    (void)choose_replacements(image->image(), "mutated.so", {});
    (void)choose_replacements(image->image(), "mutated.so", {"strong"});
    (void)undefined_symbols(image->image());
  }
  EXPECT_GT(believed, 1000U);
}

}  // namespace
