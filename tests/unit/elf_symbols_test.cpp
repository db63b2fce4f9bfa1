// symbols.hpp: which definition a reference gets, and which version it asks for. The rules are those of glibc's
// do_lookup_x() and check_match() (elf/dl-lookup.c); libc itself is the reference for real tables.
//
// Shown to fail (each guard of lib/elf/symbols.cpp taken out, the test seen to fail, the guard put back):
//   EachTable…               the walk over the SysV chain, over all symbols, left out
//   AVersionedReference…     the comparison of version names; `tag & kVersionHidden` of the base version
//   AnUnversionedReference…  `number <= 2`; `defaults == 1`
//   WhatNobodyMayBindTo…     is_offered() without its checks
//   Libc…                    any of these
//   DlsymFinds…, EveryName…  find_for_dlsym() with `number <= 2`, without `kVersionHidden`, or taking what has no version
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>

#include <set>

#include "elf/symbols.hpp"
#include "loaded.hpp"

namespace {

using namespace shunt::core;
using unit::Elf;
using unit::ElfSpec;
using unit::ElfWriter;
using unit::In;
using unit::Loaded;
using unit::Symbol;

/// Which symbol of the spec the reference is bound to: its place there, or -1.
using Find = const Elf64_Sym *(*)(const Image &, const SymbolName &, const char *);
int found_by(Find find, Loaded &loaded, const char *name, const char *version) {
  Problem problem;
  const Image image = loaded.parse(problem);
  EXPECT_FALSE(problem) << problem.message;
  const Elf64_Sym *found = find(image, SymbolName(name), version);
  return found == nullptr ? -1 : static_cast<int>((found->st_value - loaded.elf().code) / 16);
}
int bound_to(Loaded &loaded, const char *name, const char *version) {
  return found_by(&find_definition, loaded, name, version);
}
int looked_up(Loaded &loaded, const char *name, const char *version) {
  return found_by(&find_for_dlsym, loaded, name, version);
}

struct Tables {
  bool gnu, sysv;
};
class EachTable : public testing::TestWithParam<Tables> {};
INSTANTIATE_TEST_SUITE_P(Symbols, EachTable,
                         testing::Values(Tables{true, false}, Tables{false, true}, Tables{true, true},
                                         Tables{false, false}),
                         [](const auto &of) {
                           return std::string(of.param.gnu ? "Gnu" : "") + (of.param.sysv ? "Sysv" : "") +
                                  (of.param.gnu || of.param.sysv ? "" : "LinearScan");
                         });

TEST_P(EachTable, FindsEveryDefinitionAndNothingElse) {
  ElfSpec spec = {.gnu_hash = GetParam().gnu, .sysv_hash = GetParam().sysv};
  spec.symbols.push_back({"imported"});
  for (int k = 1; k < 40; ++k) spec.symbols.push_back({"function_" + std::to_string(k), true});
  Loaded loaded(ElfWriter::write(spec));
  Problem problem;
  const Image image = loaded.parse(problem);
  ASSERT_FALSE(problem) << problem.message;

  for (int k = 1; k < 40; ++k) EXPECT_EQ(bound_to(loaded, spec.symbols[k].name.c_str(), nullptr), k);
  for (const char *name : {"imported", "function_0", "function_", "", "function_400"})
    EXPECT_EQ(bound_to(loaded, name, nullptr), -1) << name;
  if (GetParam().gnu || GetParam().sysv) {
    EXPECT_EQ(symbol_count(image), 41U);  // with the null symbol
  } else {
    EXPECT_GE(symbol_count(image), 41U);  // as many as fit
  }
}

TEST(Symbols, WhatNobodyMayBindToIsPassedBy) {
  ElfSpec spec;
  const auto add = [&](const char *name, unsigned char binding, unsigned char visibility) {
    spec.symbols.push_back({.name = name, .is_defined = true, .binding = binding, .visibility = visibility});
  };
  add("global", STB_GLOBAL, STV_DEFAULT);
  add("weak", STB_WEAK, STV_DEFAULT);
  add("unique", STB_GNU_UNIQUE, STV_DEFAULT);
  add("protected", STB_GLOBAL, STV_PROTECTED);
  add("local", STB_LOCAL, STV_DEFAULT);
  add("hidden", STB_GLOBAL, STV_HIDDEN);
  add("internal", STB_GLOBAL, STV_INTERNAL);
  add("no_value", STB_GLOBAL, STV_DEFAULT);
  Elf elf = ElfWriter::write(spec);
  elf.symbol(7).st_value = 0;
  Loaded loaded(std::move(elf));

  for (int k = 0; k < 4; ++k) EXPECT_EQ(bound_to(loaded, spec.symbols[k].name.c_str(), nullptr), k);
  for (int k = 4; k < 8; ++k)
    EXPECT_EQ(bound_to(loaded, spec.symbols[k].name.c_str(), nullptr), -1) << spec.symbols[k].name;
}

TEST(Symbols, TheCanonicalPltAddressIsAnUndefinedFunctionWithAValue) {
  Elf elf =
      ElfWriter::write({.symbols = {{"function"}, {"object", false, "", false, STB_GLOBAL, STT_OBJECT}, {"plain"}},
                        .gnu_hash = false,
                        .sysv_hash = true});
  elf.symbol(0).st_value = 0x40;
  elf.symbol(1).st_value = 0x50;
  Loaded loaded(std::move(elf));
  Problem problem;
  const Image image = loaded.parse(problem);

  EXPECT_EQ(canonical_plt_address(image, SymbolName("function")), loaded.address(0x40));
  EXPECT_EQ(canonical_plt_address(image, SymbolName("object")), 0U);
  EXPECT_EQ(bound_to(loaded, "function", nullptr), -1);  // it is a stub and no definition
  EXPECT_EQ(canonical_plt_address(image, SymbolName("plain")), 0U);
}

// ---- versions

const ElfSpec kVersioned = {
    .symbols = {{.name = "both", .is_defined = true, .version = "V1", .is_hidden = true},
                {.name = "both", .is_defined = true, .version = "V2"},
                {.name = "base", .is_defined = true},
                {.name = "late", .is_defined = true, .version = "V2"},
                {.name = "retired", .is_defined = true, .version = "V2", .is_hidden = true},
                {.name = "hidden_base", .is_defined = true, .version = "", .is_hidden = true},
                {.name = "wants_n1", .version = "N1"},
                {.name = "wants_n2", .version = "N2"},
                {.name = "wants_nothing"},
                {.name = "twice", .is_defined = true, .version = "V2"},
                {.name = "twice", .is_defined = true, .version = "V3"}},
    .defines = {"V1", "V2", "V3"},
    .needs = {"N1", "N2"},
};

TEST(Versions, AVersionedReferenceGetsThatVersionOrTheBaseOne) {
  Loaded loaded(ElfWriter::write(kVersioned));

  EXPECT_EQ(bound_to(loaded, "both", "V1"), 0);
  EXPECT_EQ(bound_to(loaded, "both", "V2"), 1);
  EXPECT_EQ(bound_to(loaded, "both", "V9"), -1);
  EXPECT_EQ(bound_to(loaded, "retired", "V2"), 4);
  EXPECT_EQ(bound_to(loaded, "base", "V1"), 2);  // the base version satisfies any reference,
  EXPECT_EQ(bound_to(loaded, "base", "V9"), 2);
  EXPECT_EQ(bound_to(loaded, "hidden_base", "V1"), -1);  // if it is not hidden
  EXPECT_EQ(bound_to(loaded, "twice", "V3"), 10);
}

TEST(Versions, AnUnversionedReferenceGetsTheFirstVersionOrTheOnlyDefault) {
  Loaded loaded(ElfWriter::write(kVersioned));

  EXPECT_EQ(bound_to(loaded, "both", nullptr), 0);  // as programs linked before the versions came expect
  EXPECT_EQ(bound_to(loaded, "base", nullptr), 2);
  EXPECT_EQ(bound_to(loaded, "late", nullptr), 3);
  EXPECT_EQ(bound_to(loaded, "retired", nullptr), -1);
  EXPECT_EQ(bound_to(loaded, "hidden_base", nullptr), 5);
  EXPECT_EQ(bound_to(loaded, "twice", nullptr), -1);  // two defaults: neither
}

TEST(Versions, AnObjectWithoutVersionsSatisfiesAnyReference) {
  Loaded loaded(ElfWriter::write({.symbols = {{"plain", true}}}));

  EXPECT_EQ(bound_to(loaded, "plain", nullptr), 0);
  EXPECT_EQ(bound_to(loaded, "plain", "V1"), 0);
}

TEST(Versions, AreToldOfImportsAndOfDefinitions) {
  Loaded loaded(ElfWriter::write(kVersioned));
  Problem problem;
  const Image image = loaded.parse(problem);
  const auto number = [&](std::size_t k) { return loaded.elf().symbol_index[k]; };

  EXPECT_STREQ(needed_version(image, number(6)), "N1");
  EXPECT_STREQ(needed_version(image, number(7)), "N2");
  EXPECT_STREQ(needed_version(image, number(8)), nullptr);
  EXPECT_STREQ(needed_version(image, number(1)), "V2");  // a reference to what the object itself defines
  EXPECT_STREQ(defined_version(image, number(0)), "V1");
  EXPECT_STREQ(defined_version(image, number(1)), "V2");
  EXPECT_STREQ(defined_version(image, number(2)), nullptr);
  EXPECT_STREQ(defined_version(image, number(6)), nullptr);
}

TEST(Versions, FindDefinitionAtTellsWhichVersionLiesThere) {
  Loaded loaded(ElfWriter::write(kVersioned));
  Problem problem;
  const Image image = loaded.parse(problem);
  const SymbolName both("both");
  const std::uintptr_t first = loaded.address(loaded.elf().code);

  EXPECT_EQ(image.symbol_address(*find_definition_at(image, both, first)), first);
  EXPECT_EQ(image.symbol_address(*find_definition_at(image, both, first + 16)), first + 16);
  EXPECT_EQ(find_definition_at(image, both, first + 32), nullptr);
  EXPECT_NE(find_definition_at(image, both, 0), nullptr);
}

TEST(Versions, DlsymFindsTheDefaultAndDlvsymThatVersionOnly) {
  Loaded loaded(ElfWriter::write(kVersioned));

  EXPECT_EQ(looked_up(loaded, "both", nullptr), 1);
  EXPECT_EQ(looked_up(loaded, "base", nullptr), 2);
  EXPECT_EQ(looked_up(loaded, "late", nullptr), 3);
  EXPECT_EQ(looked_up(loaded, "retired", nullptr), -1);
  EXPECT_EQ(looked_up(loaded, "hidden_base", nullptr), 5);
  EXPECT_EQ(looked_up(loaded, "twice", nullptr), -1);
  EXPECT_EQ(looked_up(loaded, "wants_n1", nullptr), -1);
  EXPECT_EQ(looked_up(loaded, "both", "V1"), 0);
  EXPECT_EQ(looked_up(loaded, "retired", "V2"), 4);
  EXPECT_EQ(looked_up(loaded, "twice", "V3"), 10);
  EXPECT_EQ(looked_up(loaded, "base", "V1"), -1);  // a symbol without a version will not do,
  Loaded plain(ElfWriter::write({.symbols = {{"plain", true}}}));
  EXPECT_EQ(looked_up(plain, "plain", "V1"), 0);  // unless the object has none at all
}

TEST(Symbols, DlsymFindsTheCanonicalPltAddress) {
  Elf elf = ElfWriter::write({.symbols = {{"function"}, {"plain"}}, .gnu_hash = false, .sysv_hash = true});
  elf.symbol(0).st_value = 0x40;
  Loaded loaded(std::move(elf));
  Problem problem;
  const Image image = loaded.parse(problem);
  const Elf64_Sym *const found = find_for_dlsym(image, SymbolName("function"), nullptr);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(image.symbol_address(*found), loaded.address(0x40));
  EXPECT_EQ(find_for_dlsym(image, SymbolName("plain"), nullptr), nullptr);
}

// ---- libc

Image image_of(const char *soname) {
  struct Search {
    const char *soname;
    Image image;
  } search{soname, {}};
  dl_iterate_phdr(
      [](dl_phdr_info *info, std::size_t, void *argument) {
        auto &wanted = *static_cast<Search *>(argument);
        Problem problem;
        const Image image = Image::parse(info->dlpi_addr, {info->dlpi_phdr, info->dlpi_phnum}, problem);
        if (problem || std::strcmp(image.soname(), wanted.soname) != 0) return 0;
        wanted.image = image;
        return 1;
      },
      &search);
  return search.image;
}

/// Where a reference to the symbol leads: an IFUNC is asked.
std::uintptr_t target_of(const Image &image, const Elf64_Sym *symbol) {
  if (symbol == nullptr) return 0;
  const std::uintptr_t address = image.symbol_address(*symbol);
  return symbol_type(*symbol) == STT_GNU_IFUNC ? arch::Native::run_resolver(address) : address;
}

std::uintptr_t address_of(void *pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }

TEST(Libc, EveryFunctionInEveryVersionIsFoundWhereDlvsymFindsIt) {
  const Image libc = image_of("libc.so.6");
  ASSERT_NE(libc.high(), 0U);
  void *handle = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  ASSERT_NE(handle, nullptr);
  std::set<std::pair<std::string, std::string>> names;  // and their versions
  unsigned compared = 0, indirect = 0;

  for (std::uint32_t k = 1; k < symbol_count(libc); ++k) {
    const Elf64_Sym &symbol = libc.symbol(k);
    const bool is_function = symbol_type(symbol) == STT_FUNC || symbol_type(symbol) == STT_GNU_IFUNC;
    const char *version = defined_version(libc, k);
    if (!is_function || !is_defined(symbol) || symbol_binding(symbol) == STB_LOCAL) continue;
    ASSERT_NE(version, nullptr) << libc.symbol_name(k);
    const char *name = libc.symbol_name(k);
    const std::uintptr_t found = target_of(libc, find_definition(libc, SymbolName(name), version));
    EXPECT_EQ(found, address_of(dlvsym(handle, name, version))) << name << "@" << version;
    const bool is_default = (libc.versions().symbols[k] & 0x8000) == 0;
    EXPECT_TRUE(!is_default || found == address_of(dlsym(handle, name))) << name << "@@" << version;
    ++compared;
    indirect += symbol_type(symbol) == STT_GNU_IFUNC;
  }
  dlclose(handle);
  EXPECT_GT(compared, 2000U);
  EXPECT_GT(indirect, 0U);
}

TEST(Libc, OldAndNewVersionsOfAFunctionAreTwoFunctions) {
  const Image libc = image_of("libc.so.6");
  const struct {
    const char *name, *old_version, *new_version;
  } functions[] = {{"memcpy", "GLIBC_2.2.5", "GLIBC_2.14"}, {"pthread_cond_wait", "GLIBC_2.2.5", "GLIBC_2.3.2"}};

  for (const auto &[name, old_version, new_version] : functions) {
    if (dlvsym(RTLD_DEFAULT, name, old_version) == nullptr)
      GTEST_SKIP() << "this machine's libc has no " << name << "@" << old_version;
    const Elf64_Sym *older = find_definition(libc, SymbolName(name), old_version);
    const Elf64_Sym *newer = find_definition(libc, SymbolName(name), new_version);
    ASSERT_NE(older, nullptr);
    ASSERT_NE(newer, nullptr);
    EXPECT_NE(older, newer) << name;
    EXPECT_EQ(find_definition(libc, SymbolName(name), nullptr), older) << name;  // as programs without versions expect
    EXPECT_EQ(find_definition(libc, SymbolName(name), "GLIBC_9"), nullptr) << name;
  }
}

TEST(Libc, ImportsOfLibstdcxxAskForVersionsThatLibcHas) {
  const Image user = image_of("libstdc++.so.6"), libc = image_of("libc.so.6");
  ASSERT_NE(user.high(), 0U);
  unsigned found = 0;

  for (std::uint32_t k = 1; k < symbol_count(user); ++k) {
    const char *version = needed_version(user, k);
    if (is_defined(user.symbol(k)) || version == nullptr || std::strncmp(version, "GLIBC_2", 7) != 0) continue;
    found += find_definition(libc, SymbolName(user.symbol_name(k)), version) != nullptr;
  }
  EXPECT_GT(found, 50U);
}

TEST(Libc, EveryNameIsFoundWhereDlsymFindsIt) {
  const Image libc = image_of("libc.so.6");
  void *const handle = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
  ASSERT_NE(handle, nullptr);
  unsigned compared = 0;
  for (std::uint32_t k = 1; k < symbol_count(libc); ++k) {
    const char *const name = libc.symbol_name(k);
    if (!is_defined(libc.symbol(k)) || symbol_type(libc.symbol(k)) == STT_TLS) continue;
    const Elf64_Sym *const found = find_for_dlsym(libc, SymbolName(name), nullptr);
    EXPECT_EQ(target_of(libc, found), address_of(dlsym(handle, name))) << name;
    if (const char *const version = defined_version(libc, k)) {
      const Elf64_Sym *const of_version = find_for_dlsym(libc, SymbolName(name), version);
      EXPECT_EQ(target_of(libc, of_version), address_of(dlvsym(handle, name, version))) << name << '@' << version;
    }
    ++compared;
  }
  EXPECT_GT(compared, 2000U);
}

}  // namespace
