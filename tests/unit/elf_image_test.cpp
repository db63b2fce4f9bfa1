// image.hpp on images that are well formed: written ones, and all that this process has loaded.
//
// Shown to fail (each guard of lib/elf/image.cpp taken out, the test seen to fail, the guard put back):
//   EveryTableIsRead…          set_table(2, …) left out; address_of() always adds the base
//   PltRelocationsThat…        `jmprel >= rela` with > ; the condition left out
//   NotesOf8Bytes…             `padded(name_at + …)` as `name_at + padded(…)`
#include <gtest/gtest.h>
#include <link.h>
#include <sys/auxv.h>

#include <fstream>
#include <set>

#include "ask_everything.hpp"
#include "loaded.hpp"

namespace {

using shunt::core::Image;
using shunt::core::Problem;
using shunt::core::Relocation;
using shunt::core::arch::Native;
using shunt::core::arch::RelocKind;
using unit::Base;
using unit::Elf;
using unit::ElfSpec;
using unit::ElfWriter;
using unit::In;
using unit::Loaded;

#if defined(__aarch64__)
constexpr unsigned kJumpSlot = 1026, kGlobDat = 1025, kAbsolute = 257;
#else
constexpr unsigned kJumpSlot = 7, kGlobDat = 6, kAbsolute = 1;
#endif

ElfSpec full_spec() {
  return {
      .symbols = {{"imported"}, {"data_pointer"}, {"defined", true}, {"old_machine"}},
      .relocs = {{0, In::jmprel, kJumpSlot},
                 {1, In::rela, kGlobDat},
                 {1, In::rela, kAbsolute, 24},
                 {3, In::rel, kAbsolute}},
      .relr = true,
  };
}

/// "symbol kind place addend" of every relocation, the place counted in slots.
std::multiset<std::string> relocations(const Image &image, const Loaded &loaded) {
  std::multiset<std::string> all;
  for (unsigned table = 0; table < Image::kTables; ++table)
    for (std::uint32_t k = 0; k < image.table(table).count; ++k) {
      const Relocation one = image.relocation(table << Image::kTableShift | k);
      const std::uintptr_t slot = (one.place - loaded.address(loaded.elf().slots)) / 8;
      all.insert(std::string(image.symbol_name(one.symbol)) + " " + kind_name(one.kind) + " " + std::to_string(slot) +
                 " " + std::to_string(one.addend));
    }
  return all;
}

class AtEveryBase : public testing::TestWithParam<Base> {};
INSTANTIATE_TEST_SUITE_P(Image, AtEveryBase, testing::Values(Base::offsets, Base::in_place, Base::zero));

TEST_P(AtEveryBase, EveryTableIsRead) {
  Loaded loaded(ElfWriter::write(full_spec()), GetParam());
  Problem problem;

  const Image image = loaded.parse(problem);

  ASSERT_FALSE(problem) << problem.message;
  EXPECT_EQ(image.low(), loaded.begin());
  EXPECT_LE(image.high(), loaded.end());
  EXPECT_STREQ(image.soname(), "libwritten.so");
  EXPECT_STREQ(image.needed(0), "libneeded.so");
  EXPECT_EQ(image.needed(1), nullptr);
  EXPECT_EQ(image.relocation_count(), 4U);
  EXPECT_LE(reinterpret_cast<std::uintptr_t>(&image.symbol(image.symbol_limit())),
            reinterpret_cast<std::uintptr_t>(image.string(0)));
  EXPECT_EQ(relocations(image, loaded),
            (std::multiset<std::string>{"imported jump_slot 0 0", "data_pointer glob_dat 1 0",
                                        "data_pointer absolute 2 24", "old_machine absolute 3 0"}));
  EXPECT_EQ(image.relro().begin, loaded.address(loaded.elf().slots));
  EXPECT_TRUE(image.is_code(loaded.address(loaded.elf().code)));
  EXPECT_FALSE(image.is_code(loaded.address(loaded.elf().slots)));
  EXPECT_FALSE(image.is_code(loaded.end()));
  EXPECT_EQ(image.build_id().size(), 8U);
  EXPECT_EQ(symbol_count(image), 5U);  // with the null symbol
  const Elf64_Sym *defined = find_definition(image, shunt::core::SymbolName("defined"), nullptr);
  ASSERT_NE(defined, nullptr);
  EXPECT_EQ(image.symbol_address(*defined), loaded.address(loaded.elf().code + 2 * 16));
}

TEST(Image, PltRelocationsThatDtRelaszIncludesAreCountedOnce) {
  for (const bool also_others : {true, false}) {
    ElfSpec spec = full_spec();
    spec.rela_has_plt = true;
    if (!also_others) spec.relocs = {{0, In::jmprel, kJumpSlot}};
    Loaded loaded(ElfWriter::write(spec));
    Problem problem;

    const Image image = loaded.parse(problem);

    ASSERT_FALSE(problem) << problem.message;
    EXPECT_EQ(image.relocation_count(), also_others ? 4U : 1U);
    EXPECT_EQ(image.table(1).count, 1U);
  }
}

TEST(Image, PltRelocationsMayBeWithoutAddend) {
  ElfSpec spec = full_spec();
  spec.plt_is_rel = true;
  Loaded loaded(ElfWriter::write(spec));
  Problem problem;

  const Image image = loaded.parse(problem);

  ASSERT_FALSE(problem) << problem.message;
  EXPECT_FALSE(image.table(1).with_addend);
  EXPECT_EQ(relocations(image, loaded).count("imported jump_slot 0 0"), 1U);
}

TEST(Image, WithoutDynamicSegmentItImportsNothing) {
  ElfSpec spec = full_spec();
  spec.dynamic = false;
  Loaded loaded(ElfWriter::write(spec));
  Problem problem;

  const Image image = loaded.parse(problem);

  ASSERT_FALSE(problem) << problem.message;
  EXPECT_NE(image.high(), 0U);
  EXPECT_EQ(image.relocation_count(), 0U);
  EXPECT_EQ(symbol_count(image), 0U);
  EXPECT_STREQ(image.soname(), "");
  EXPECT_EQ(image.build_id().size(), 8U);
}

TEST(Image, NotesOf8BytesAlignmentAreReadToo) {
  for (const std::uint32_t align : {4U, 8U})
    for (const std::size_t size : {8U, 20U, 3U}) {
      ElfSpec spec = full_spec();
      spec.note_align = align;
      spec.build_id = std::string("0123456789abcdefghij").substr(0, size);
      Loaded loaded(ElfWriter::write(spec));
      Problem problem;

      const Image image = loaded.parse(problem);

      EXPECT_EQ(std::string(image.build_id().begin(), image.build_id().end()), spec.build_id) << "aligned to " << align;
    }
}

TEST(Image, FlagsOfTheDynamicSection) {
  for (const auto &[value, symbolic, text] :
       {std::tuple(0, false, false), std::tuple(DF_SYMBOLIC, true, false), std::tuple(DF_TEXTREL, false, true)}) {
    Elf elf = ElfWriter::write(full_spec());
    for (Elf64_Dyn &entry : elf.all_dynamic())
      if (entry.d_tag == DT_NEEDED) entry = {DT_FLAGS, {static_cast<Elf64_Xword>(value)}};
    Loaded loaded(std::move(elf));
    Problem problem;

    const Image image = loaded.parse(problem);

    EXPECT_EQ(image.binds_symbolically(), symbolic);
    EXPECT_EQ(image.has_text_relocations(), text);
  }
}

// ---- what this process has loaded

struct Object {
  std::string path;
  std::uintptr_t base;
  std::span<const Elf64_Phdr> headers;
};

std::vector<Object> loaded_objects() {
  std::vector<Object> objects;
  dl_iterate_phdr(
      [](dl_phdr_info *info, std::size_t, void *all) {
        static_cast<std::vector<Object> *>(all)->push_back(
            {info->dlpi_name, info->dlpi_addr, {info->dlpi_phdr, info->dlpi_phnum}});
        return 0;
      },
      &objects);
  return objects;
}

TEST(LoadedObjects, AllAreReadWithTheVdsoAndTheDynamicLinker) {
  bool saw_vdso = false, saw_linker = false;
  for (const Object &object : loaded_objects()) {
    SCOPED_TRACE(object.path);
    Problem problem;

    const Image image = Image::parse(object.base, object.headers, problem);

    EXPECT_FALSE(problem) << problem.message;
    EXPECT_GT(symbol_count(image), 1U);
    EXPECT_NE(unit::ask_everything(image), 0U);
    const std::uintptr_t vdso = getauxval(AT_SYSINFO_EHDR), linker = getauxval(AT_BASE);
    saw_vdso = saw_vdso || (vdso != 0 && image.low() == vdso);
    saw_linker = saw_linker || (linker != 0 && image.low() == linker);
  }
  EXPECT_EQ(saw_vdso, getauxval(AT_SYSINFO_EHDR) != 0);
  EXPECT_TRUE(saw_linker);
}

TEST(LoadedObjects, BuildIdIsTheOneThatReadelfTells) {
  unsigned compared = 0;
  for (const Object &object : loaded_objects()) {
    if (object.path.find("libc.so") == std::string::npos && object.path.find("libstdc++") == std::string::npos)
      continue;
    SCOPED_TRACE(object.path);
    FILE *readelf = popen(("readelf -n " + object.path + " 2>&1").c_str(), "re");
    ASSERT_NE(readelf, nullptr);
    std::string text(64 << 10, '\0');
    text.resize(fread(text.data(), 1, text.size(), readelf));
    ASSERT_EQ(pclose(readelf), 0) << text;
    Problem problem;

    const Image image = Image::parse(object.base, object.headers, problem);

    std::string hex;
    for (const unsigned byte : image.build_id()) {
      char two[3];
      std::snprintf(two, sizeof two, "%02x", byte);
      hex += two;
    }
    EXPECT_NE(hex, "");
    EXPECT_NE(text.find("Build ID: " + hex), std::string::npos) << hex << " is not in\n" << text;
    ++compared;
  }
  EXPECT_EQ(compared, 2U);
}

}  // namespace
