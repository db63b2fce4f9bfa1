// lib/objects: the import index, the table of loaded objects, and what they keep.
//
// Shown to fail (each guard of lib/objects taken out, the test seen to fail, the guard put back):
//   ImportIndex.Collisions…   for_each() without strcmp()
//   ImportIndex.Finds…        a table left out in build(); what is passed over not left out
//   ImportIndex.Refuses…      `index >= symbol_limit`, `st_name >= strings_size`
//   IndexArena…               free() without unmap()
//   ObjectTable…              refresh() that never looks again, or frees no index; at() without contains(); startup_count() as 1
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/auxv.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

#include "loaded.hpp"
#include "objects/import_index.hpp"
#include "objects/object_table.hpp"

namespace {

using namespace shunt::core;
using unit::Elf;
using unit::ElfSpec;
using unit::ElfWriter;
using unit::In;
using unit::Loaded;
using unit::Reloc;
using unit::Symbol;

#if defined(__aarch64__)
constexpr unsigned kJumpSlot = 1026, kGlobDat = 1025, kAbsolute = 257, kRelative = 1027;
#else
constexpr unsigned kJumpSlot = 7, kGlobDat = 6, kAbsolute = 1, kRelative = 8;
#endif

// ---- the import index

ImportIndex build(IndexArena &arena, const Image &image, Problem &problem) {
  return arena.build(
      image, nullptr, HashSet(), [](IndexHash, Image::RelocationRef, const char *) {}, problem);
}

/// The places of the slots that the index finds for a name, counted in slots of the written image.
std::multiset<std::size_t> slots_of(const ImportIndex &index, const Loaded &loaded, const Image &image,
                                    const std::string &name) {
  std::multiset<std::size_t> slots;
  index.for_each(image, SymbolName(name.c_str()), [&](Image::RelocationRef one) {
    slots.insert((image.relocation(one).place - loaded.address(loaded.elf().slots)) / 8);
  });
  return slots;
}

using Slots = std::multiset<std::size_t>;

TEST(ImportIndex, FindsEveryRelocationThatMayBeASlot) {
  ElfSpec spec = {.symbols = {{"one"}, {"two"}, {.name = "local", .binding = STB_LOCAL}, {"own", true}, {"unused"}},
                  .relocs = {{0, In::jmprel, kJumpSlot},
                             {1, In::jmprel, kJumpSlot},
                             {0, In::rela, kGlobDat},
                             {0, In::rela, kRelative},  // is passed over
                             {0, In::rela, kAbsolute, 8},
                             {2, In::rela, kAbsolute},
                             {3, In::rela, kGlobDat},
                             {1, In::rel, kAbsolute},
                             {0, In::rel, kAbsolute}}};
  Loaded loaded(ElfWriter::write(spec));
  Problem problem;
  const Image image = loaded.parse(problem);
  IndexArena arena;

  ImportIndex index = build(arena, image, problem);

  ASSERT_FALSE(problem) << problem.message;
  EXPECT_EQ(slots_of(index, loaded, image, "one"), (Slots{0, 2, 4, 8}));
  EXPECT_EQ(slots_of(index, loaded, image, "two"), (Slots{1, 7}));
  EXPECT_EQ(slots_of(index, loaded, image, "own"), (Slots{6}));
  for (const char *name : {"local", "unused", "", "three"})
    EXPECT_EQ(slots_of(index, loaded, image, name), Slots{}) << name;
  arena.free(index);
}

/// 300 symbols and 1,000 relocations: the k-th is about symbol 7k modulo 300, and every fifth about none.
ElfSpec many_relocations() {
  ElfSpec spec;
  for (int k = 0; k < 300; ++k) spec.symbols.push_back({"function_number_" + std::to_string(k)});
  for (std::size_t k = 0; k < 1000; ++k)
    spec.relocs.push_back({k * 7 % 300, k < 500 ? In::jmprel : In::rela, k % 5 == 0 ? kRelative : kJumpSlot});
  return spec;
}

TEST(ImportIndex, FindsTheSameAsALookAtEveryRelocation) {
  const ElfSpec spec = many_relocations();
  Loaded loaded(ElfWriter::write(spec));
  Problem problem;
  const Image image = loaded.parse(problem);
  IndexArena arena;

  ImportIndex index = build(arena, image, problem);

  ASSERT_FALSE(problem) << problem.message;
  for (std::size_t symbol = 0; symbol < 300; ++symbol) {
    Slots expected;
    for (std::size_t k = 0; k < 1000; ++k)
      if (k * 7 % 300 == symbol && k % 5 != 0) expected.insert(k);
    EXPECT_EQ(slots_of(index, loaded, image, spec.symbols[symbol].name), expected) << symbol;
  }
  arena.free(index);
}

TEST(ImportIndex, TellsOfWhatIsAskedForWhileItIsBuiltAndAfter) {
  const ElfSpec spec = many_relocations();
  Loaded loaded(ElfWriter::write(spec));
  Problem problem;
  const Image image = loaded.parse(problem);
  IndexArena arena;
  for (const std::size_t symbols : {0, 1, 30, 300}) {
    HashSet asked;
    std::multiset<std::string> expected, built, searched;
    for (std::size_t k = 0; k < symbols; ++k) asked.insert(index_hash(SymbolName(spec.symbols[k].name.c_str())));
    for (std::size_t k = 0; k < 1000; ++k)
      if (k * 7 % 300 < symbols && k % 5 != 0) expected.insert(spec.symbols[k * 7 % 300].name);
    const auto keep = [&](std::multiset<std::string> &names, IndexHash hash, const char *name) {
      EXPECT_EQ(hash, index_hash(SymbolName(name)));
      if (std::stoul(std::string(name).substr(16)) < symbols) names.insert(name);  // a few others pass as well
    };

    ImportIndex index = arena.build(
        image, &image, asked,
        [&](IndexHash hash, Image::RelocationRef reference, const char *name) {
          EXPECT_STREQ(name, image.symbol_name(image.relocation(reference).symbol));
          keep(built, hash, name);
        },
        problem);
    ASSERT_FALSE(problem) << problem.message;
    index.for_each_in(asked, [&](IndexHash hash, Image::RelocationRef reference) {
      keep(searched, hash, image.symbol_name(image.relocation(reference).symbol));
    });

    EXPECT_EQ(built, expected);
    EXPECT_EQ(searched, expected);
    arena.free(index);
  }
}

/// Two names with one hash: among a thousand names there is nearly always a pair; more are tried until there is one.
std::pair<std::string, std::string> names_that_collide() {
  std::unordered_map<IndexHash, std::string> known;
  for (int k = 0;; ++k) {
    const std::string name = "collide_" + std::to_string(k);
    const auto [other, is_new] = known.emplace(index_hash(SymbolName(name.c_str())), name);
    if (!is_new) return {other->second, name};
  }
}

TEST(ImportIndex, CollisionsAreToldApart) {
  const auto [first, second] = names_that_collide();
  ASSERT_EQ(index_hash(SymbolName(first.c_str())), index_hash(SymbolName(second.c_str())));
  Loaded loaded(
      ElfWriter::write({.symbols = {{first}, {second}},
                        .relocs = {{0, In::jmprel, kJumpSlot}, {1, In::jmprel, kJumpSlot}, {0, In::rela, kGlobDat}}}));
  Problem problem;
  const Image image = loaded.parse(problem);
  IndexArena arena;

  ImportIndex index = build(arena, image, problem);

  for (int twice = 0; twice < 2; ++twice) {  // what a first search remembers must not mislead a second one
    EXPECT_EQ(slots_of(index, loaded, image, first), (Slots{0, 2}));
    EXPECT_EQ(slots_of(index, loaded, image, second), (Slots{1}));
  }
  arena.free(index);
}

TEST(ImportIndex, RefusesRelocationsThatNameWhatIsNotThere) {
  const auto said_of = [](Elf elf) {
    Loaded loaded(std::move(elf));
    Problem problem;
    const Image image = loaded.parse(problem);
    EXPECT_FALSE(problem) << problem.message;
    IndexArena arena;
    ImportIndex index = build(arena, image, problem);
    EXPECT_FALSE(index.is_built && problem);
    return problem.code;
  };
  const Elf good = ElfWriter::write({.symbols = {{"one"}}, .relocs = {{0, In::jmprel, kJumpSlot}}});
  Elf symbol = good, string = good;
  symbol.at<Elf64_Rela>(symbol.dynamic(DT_JMPREL)).r_info = ELF64_R_INFO(std::uint64_t{100000}, kJumpSlot);
  string.symbol(0).st_name = 100000;

  EXPECT_EQ(said_of(good), Code::ok);
  EXPECT_EQ(said_of(symbol), Code::image_malformed);
  EXPECT_EQ(said_of(string), Code::image_malformed);
}

TEST(ImportIndex, TakesAtMost16BytesASlotAnd1KiBAnObject) {
  for (const bool is_worst : {false, true}) {
    ElfSpec spec = {.symbols = {{"one"}}};
    for (std::size_t k = 0; k < 4000; ++k)  // at worst every other relocation is no slot
      spec.relocs.push_back({0, In::rela, is_worst && k % 2 == 0 ? kRelative : kGlobDat});
    Loaded loaded(ElfWriter::write(spec));
    Problem problem;
    const Image image = loaded.parse(problem);
    IndexArena arena;

    ImportIndex index = build(arena, image, problem);

    EXPECT_EQ(index.count, is_worst ? 2000U : 4000U);
    EXPECT_LE(arena.bytes_used(), 16 * index.count + 1024);
    EXPECT_LT(slots_of(index, loaded, image, "one").size(), 4001U);
    arena.free(index);
    EXPECT_EQ(arena.bytes_used(), 0U);
  }
}

std::size_t mapped_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t pages = 0;
  statm >> pages;
  return pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

TEST(IndexArena, GivesPagesBackWhenTheirIndexesAreGone) {
  ElfSpec spec = {.symbols = {{"one"}}};
  spec.relocs.resize(4000, {0, In::rela, kGlobDat});
  Loaded loaded(ElfWriter::write(spec));
  Problem problem;
  const Image image = loaded.parse(problem);
  IndexArena arena;
  std::vector<ImportIndex> indexes(400);
  const auto build_all = [&] {
    for (ImportIndex &index : indexes) index = build(arena, image, problem);
    ASSERT_FALSE(problem) << problem.message;
  };
  ImportIndex first = build(arena, image, problem);
  arena.free(first);
  const std::size_t before = mapped_bytes();

  build_all();
  EXPECT_GT(mapped_bytes(), before + (std::size_t{2} << 20));
  for (ImportIndex &index : indexes) arena.free(index);

  EXPECT_LT(mapped_bytes(), before + (std::size_t{1} << 20));  // the current pages stay
  EXPECT_EQ(arena.bytes_used(), 0U);
  for (const ImportIndex &index : indexes) EXPECT_FALSE(index.is_built);
}

// ---- Interner

TEST(Interner, KeepsEachStringOnceForEver) {
  Interner names;
  char text[] = "first";
  const char *first = names.intern(text);
  text[0] = 'F';

  EXPECT_STREQ(first, "first");
  EXPECT_EQ(names.intern("first"), first);
  EXPECT_NE(names.intern("First"), first);
  EXPECT_STREQ(names.intern(""), "");
  for (int k = 0; k < 5000; ++k) ASSERT_EQ(names.intern(std::to_string(k).c_str()), std::to_string(k));
  EXPECT_EQ(names.intern("first"), first);
}

TEST(Interner, TakesStringsOfAnyLength) {
  Interner names;
  std::vector<const char *> kept;
  const std::size_t sizes[] = {65534, 65535, 65536, 65537, 200000, 1, 0};
  for (const std::size_t size : sizes) kept.push_back(names.intern(std::string(size, 'x').c_str()));

  for (std::size_t k = 0; k < kept.size(); ++k) EXPECT_EQ(std::string(kept[k]).size(), sizes[k]);
}

// ---- ObjectTable

constexpr const char *kPlugin = "libBrokenLocale.so.1",
                     *kLaterPlugin = "libanl.so.1";  // of libc, and nobody needs them

template <class Work>
void locked(ObjectTable &table, Work work) {
  Problem problem;
  bool has_run = false;
  table.while_locked(problem, [&](Problem &) {
    has_run = true;
    work();
  });
  EXPECT_FALSE(problem) << problem.message;
  EXPECT_TRUE(has_run);
}

Object *find(ObjectTable &table, const char *glob) {
  for (Object &object : table.in_load_order())
    if (object.matches(glob)) return &object;
  return nullptr;
}

TEST(ObjectTable, ListsWhatTheDynamicLinkerLists) {
  std::vector<std::pair<std::uintptr_t, std::string>> expected;
  dl_iterate_phdr(
      [](dl_phdr_info *info, std::size_t, void *all) {
        static_cast<decltype(expected) *>(all)->emplace_back(info->dlpi_addr, info->dlpi_name);
        return 0;
      },
      &expected);
  char program[4096] = {};
  ASSERT_GT(readlink("/proc/self/exe", program, sizeof program - 1), 0);
  ObjectTable table;

  locked(table, [&] {
    ASSERT_EQ(table.in_load_order().size(), expected.size());
    for (std::size_t k = 0; k < expected.size(); ++k) {
      const Object &object = table[k];
      EXPECT_EQ(object.image.base(), expected[k].first);
      EXPECT_STREQ(object.path, k == 0 ? program : expected[k].second.c_str());
      EXPECT_EQ(object.is_executable, k == 0);
      EXPECT_TRUE(object.is_readable) << object.unreadable;
      EXPECT_EQ(object.is_vdso, object.image.low() == getauxval(AT_SYSINFO_EHDR)) << object.path;
      EXPECT_EQ(table.with_id(object.id), &object);
    }
    EXPECT_EQ(table.with_id(0), nullptr);
    EXPECT_EQ(table.with_id(1000), nullptr);
    std::uintptr_t last = 0;
    EXPECT_EQ(table.by_address().size(), expected.size());
    for (const std::uint32_t k : table.by_address()) {
      EXPECT_GT(table[k].image.low(), last);
      last = table[k].image.low();
    }
  });
}

TEST(ObjectTable, KnowsWhoseEveryAddressIs) {
  ObjectTable table;
  std::ifstream maps("/proc/self/maps");
  const std::string text(std::istreambuf_iterator<char>(maps), {});
  locked(table, [&] {
    for (Object &object : table.in_load_order())
      for (const Elf64_Phdr &segment : object.image.headers()) {
        if (segment.p_type != PT_LOAD || segment.p_memsz == 0) continue;
        const std::uintptr_t begin = object.image.base() + segment.p_vaddr;
        EXPECT_EQ(table.at(begin), &object) << object.path;
        EXPECT_EQ(table.at(begin + segment.p_memsz - 1), &object) << object.path;
        EXPECT_NE(table.at(object.image.high()), &object) << object.path;
      }
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      const std::uintptr_t begin = std::stoul(line, nullptr, 16);
      const Object *object = table.at(begin);
      if (object == nullptr || object->is_vdso) continue;
      const std::string file = std::filesystem::canonical(object->path).string();
      const bool is_its_bss = line.find('/') == std::string::npos;
      EXPECT_TRUE(is_its_bss || line.ends_with(file)) << line << " is said to be of " << object->path;
    }
    int local = 0;
    EXPECT_EQ(table.at(0), nullptr);
    EXPECT_EQ(table.at(UINTPTR_MAX), nullptr);
    EXPECT_EQ(table.at(reinterpret_cast<std::uintptr_t>(&local)), nullptr);
    EXPECT_TRUE(table.at(reinterpret_cast<std::uintptr_t>(&find))->is_executable);
  });
}

TEST(ObjectTable, FollowsWhatIsLoadedAndUnloaded) {
  ObjectTable table;
  std::uint64_t generation = 0;
  ObjectId libc = 0, first = 0;
  std::size_t count = 0, at_start = 0;
  const char *path = nullptr;
  locked(table, [&] {
    generation = table.generation();
    count = table.in_load_order().size();
    at_start = table.startup_count();
    libc = find(table, "libc.so.6")->id;
    ASSERT_EQ(find(table, kPlugin), nullptr);
  });
  EXPECT_EQ(at_start, count);  // nothing was loaded since the start
  locked(table, [&] { EXPECT_EQ(table.generation(), generation); });

  void *plugin = dlopen(kPlugin, RTLD_LAZY);
  ASSERT_NE(plugin, nullptr) << dlerror();
  locked(table, [&] {
    EXPECT_NE(table.generation(), generation);
    EXPECT_EQ(table.in_load_order().size(), count + 1);
    const Object *loaded = find(table, kPlugin);
    ASSERT_NE(loaded, nullptr);
    first = loaded->id;
    path = loaded->path;
    EXPECT_EQ(find(table, "libc.so.6")->id, libc);
    EXPECT_EQ(table.startup_count(), at_start);
    EXPECT_EQ(table.position_of_needed(kPlugin), count);
  });

  dlclose(plugin);
  locked(table, [&] {
    EXPECT_EQ(table.in_load_order().size(), count);
    EXPECT_EQ(find(table, kPlugin), nullptr);
    EXPECT_EQ(table.with_id(first), nullptr);
    EXPECT_EQ(find(table, "libc.so.6")->id, libc);
  });

  plugin = dlopen(kPlugin, RTLD_LAZY);
  ASSERT_NE(plugin, nullptr) << dlerror();
  locked(table, [&] {
    EXPECT_NE(find(table, kPlugin)->id, first);
    EXPECT_EQ(find(table, kPlugin)->path, path);  // interned
  });
  dlclose(plugin);
}

TEST(ObjectTable, TheIndexOfAnObjectThatLeavesIsGivenBack) {
  for (const bool another_stays : {false, true}) {
    ObjectTable table;
    void *plugin = dlopen(kPlugin, RTLD_LAZY);
    void *later = another_stays ? dlopen(kLaterPlugin, RTLD_LAZY) : nullptr;
    ASSERT_NE(plugin, nullptr) << dlerror();
    std::size_t without = 0;
    locked(table, [&] {
      Problem problem;
      for (Object &object : table.in_load_order()) {
        if (object.matches(kPlugin) || object.matches(kLaterPlugin)) continue;
        EXPECT_TRUE(table.have_index(object, problem)) << problem.message;
        EXPECT_LE(object.index.bytes, 16 * object.index.count + 1024) << object.path;
      }
      without = table.index_bytes();
      EXPECT_TRUE(table.have_index(*find(table, kPlugin), problem));
      EXPECT_GT(table.index_bytes(), without);
    });
    dlclose(plugin);

    locked(table, [&] {
      EXPECT_EQ(table.index_bytes(), without);
      EXPECT_TRUE(find(table, "libc.so.6")->index.is_built);
    });
    if (later != nullptr) dlclose(later);
  }
}

TEST(ObjectTable, FindsObjectsByTheNamesThatOthersNeed) {
  ObjectTable table;
  locked(table, [&] {
    const std::size_t position = table.position_of_needed("libc.so.6");
    ASSERT_LT(position, table.in_load_order().size());
    EXPECT_STREQ(table[position].soname, "libc.so.6");
    EXPECT_EQ(table.position_of_needed("libnothing.so"), table.in_load_order().size());
  });
}

TEST(Object, IsMatchedBySonamePathOrFileName) {
  Object object;
  object.path = "/opt/lib/libreal.so.1.2";
  object.soname = "libreal.so.1";

  for (const char *glob :
       {"libreal.so.1", "libreal.so.1.2", "/opt/lib/libreal.so.1.2", "/opt/*", "*real*", "libreal.so.?"})
    EXPECT_TRUE(object.matches(glob)) << glob;
  for (const char *glob : {"libreal.so", "real", "/opt/lib", "", "libreal.so.2"})
    EXPECT_FALSE(object.matches(glob)) << glob;
  object.soname = "";
  EXPECT_FALSE(object.matches(""));  // an object without soname is not the one called ""
}

}  // namespace
