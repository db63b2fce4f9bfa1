// lib/cli: tables, names, what is shown of hostile names, and what a patch would reach in files.
//
// Shown to fail: screen.cpp without the loop that narrows columns; printable() without is_control(); name_matches() without the
// name that has no parameters; offline.cpp with was_named ignored.
#include <gtest/gtest.h>

#include <cstdlib>

#include "cli/console.hpp"
#include "cli/names.hpp"
#include "cli/offline.hpp"
#include "cli/screen.hpp"

namespace {

using namespace shunt::cli;
using shunt::core::ElfFile;

constexpr const char *kDamage = "_ZN5rules6damageERKNS_6PlayerEi";

// ---- screen

TEST(Screen, ControlCharactersAreNeverWritten) {
  EXPECT_EQ(printable("a\x1b[31mb\n\x7f"), "a?[31mb??");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "?31m");  // the one-character form of ESC [
  EXPECT_EQ(printable("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f");
  EXPECT_EQ(printable("\xff\xc3"), "??");
}

TEST(Screen, WhatIsTooLongIsCutAtTheRightEnd) {
  EXPECT_EQ(cut("abcdefghij", 10, false), "abcdefghij");
  EXPECT_EQ(cut("abcdefghij", 8, false), "abcde...");
  EXPECT_EQ(cut("/usr/lib/libc.so.6", 12, true), "...libc.so.6");
  EXPECT_EQ(cut("\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc", 4, false), "\xc3\xbc...");
  EXPECT_EQ(cut("abcdef", 2, false), "..");
}

Table example() {
  Table table({{"PID", Column::number}, {"NAME"}, {"PROGRAM", Column::path}});
  table.add({"7", "a name that is rather long for its column", "/usr/lib/somewhere/deep/in/the/tree/program"});
  table.add({"12345", "x"});
  return table;
}

TEST(Screen, ATableFitsTheTerminal) {
  for (std::size_t width = 30; width <= 100; ++width) {
    const std::string text = example().text({width, false});
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = text.find('\n', begin);
      EXPECT_LE(width_of(text.substr(begin, end - begin)), width) << text;
      begin = end + 1;
    }
  }
  EXPECT_NE(example().text({60, false}).find("program\n"), std::string::npos);  // a path keeps its end
}

TEST(Screen, WithoutATerminalNothingIsCut) {
  const std::string text = example().text({0, false});

  EXPECT_NE(text.find("a name that is rather long for its column  /usr/lib/somewhere/deep/in/the/tree/program\n"),
            std::string::npos);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

TEST(Screen, ColourIsOnlyWhereItIsWanted) {
  EXPECT_EQ(Screen({80, false}).paint(Colour::bad, "no"), "no");
  EXPECT_EQ(Screen({80, true}).paint(Colour::bad, "no"), "\x1b[31mno\x1b[0m");
}

// ---- names

TEST(Names, AreAcceptedMangledAndNot) {
  EXPECT_EQ(demangled(kDamage), "rules::damage(rules::Player const&, int)");
  EXPECT_EQ(demangled("gettimeofday"), "gettimeofday");
  for (const char *glob :
       {kDamage, "rules::damage(rules::Player const&, int)", "rules::damage", "rules::*", "_ZN5rules*"})
    EXPECT_TRUE(name_matches(glob, kDamage)) << glob;
  EXPECT_FALSE(name_matches("damage", kDamage));
  EXPECT_FALSE(name_matches("rules::damag", kDamage));
}

TEST(Names, OfOperatorsAndTemplates) {
  const std::vector<std::string> all = {"_ZNK1AclEi", "_ZeqRK1AS1_", "_ZN12_GLOBAL__N_11fEv"};
  EXPECT_EQ(symbols_named("A::operator()", all), std::vector<std::string>{all[0]});
  EXPECT_EQ(symbols_named("operator==", all), std::vector<std::string>{all[1]});
  EXPECT_EQ(symbols_named("(anonymous namespace)::f", all), std::vector<std::string>{all[2]});
}

TEST(Names, APairIsSplitAtTheRightSign) {
  const std::vector<std::string> exports = {kDamage, "_ZeqRK1AS1_", "mine", "_ZN1A1fEi", "_ZN1A1fEv"};

  const SymbolPair plain = split_symbol("theirs=mine", exports, "fix.so");
  EXPECT_EQ(plain.symbol, "theirs");
  EXPECT_EQ(plain.replacement, "mine");
  EXPECT_EQ(split_symbol("operator==", exports, "fix.so").symbol, "_ZeqRK1AS1_");
  EXPECT_EQ(split_symbol("rules::damage", exports, "fix.so").replacement, kDamage);
  EXPECT_EQ(split_symbol("rules::damage=mine", exports, "fix.so").symbol, kDamage);
  EXPECT_THROW(split_symbol("theirs=absent", exports, "fix.so"), Failure);
  EXPECT_THROW(split_symbol("A::f", exports, "fix.so"), Failure);  // two of them
  EXPECT_EQ(split_symbol("A::f(int)", exports, "fix.so").symbol, "_ZN1A1fEi");
}

// ---- check of files

shunt::core::FileExport function(const char *name, bool is_weak = false) { return {name, "", true, is_weak, true}; }

ElfFile file(const char *path) {
  ElfFile one;
  one.path = path;
  one.machine = &shunt::core::arch::kMachines[0];
  return one;
}

ElfFile patch() {
  ElfFile one = file("fix.so");
  one.exports = {function("fixed"), function("weak", true), {"data", "", true, false, false}};
  return one;
}

ElfFile provider(const char *path) {
  ElfFile one = file(path);
  one.exports = {function("fixed")};
  return one;
}

ElfFile caller(const char *path) {
  ElfFile one = file(path);
  one.imports = {{"fixed", "", "", false, false, false, 1, 0, 2}};
  return one;
}

OfflineReport check(std::vector<ElfFile> files, const OfflineOptions &options = {}) {
  return check_offline(patch(), default_requests(patch()), std::move(files), options);
}

TEST(Offline, OnlyStrongFunctionsAreTakenByThemselves) {
  const std::vector<OfflineRequest> requests = default_requests(patch());
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(requests[0].symbol, "fixed");
}

TEST(Offline, ACallerIsReachedThroughItsSlots) {
  const OfflineReport report = check({caller("/bin/server")});

  ASSERT_EQ(report.functions.size(), 1u);
  EXPECT_EQ(report.functions[0].slots(), 3u);
  EXPECT_TRUE(report.is_good());
}

TEST(Offline, TheOwnCallsOfANamedFileThatDefinesTheFunctionAreNot) {
  const OfflineReport report = check({caller("/bin/server"), provider("/lib/librules.so")});

  EXPECT_EQ(report.functions[0].provider, "/lib/librules.so");
  ASSERT_EQ(report.functions[0].unreached.size(), 1u);
  EXPECT_EQ(report.functions[0].unreached[0].path, "/lib/librules.so");
  EXPECT_FALSE(report.is_good());
}

TEST(Offline, AProgramThatHasTheFunctionInsideIsNot) {
  ElfFile program = file("/bin/server");
  program.inner_functions = {"fixed"};

  const OfflineReport report = check({program});

  EXPECT_NE(report.functions[0].unreached[0].reason.find("not exported"), std::string::npos);
  EXPECT_FALSE(report.is_good());
}

TEST(Offline, WhatNobodyKnowsIsNamed) {
  const OfflineReport report = check({file("/bin/server")});

  ASSERT_EQ(report.functions[0].unreached.size(), 1u);
  EXPECT_NE(report.functions[0].unreached[0].reason.find("unknown"), std::string::npos);
  EXPECT_FALSE(report.is_good());
}

TEST(Offline, FiltersChooseCallers) {
  EXPECT_TRUE(check({caller("/bin/server"), caller("/lib/other.so")}, {{"server"}, {}}).is_good());
  EXPECT_EQ(check({caller("/bin/server"), caller("/lib/other.so")}, {{"server"}, {}}).functions[0].callers.size(), 1u);
  EXPECT_EQ(check({caller("/bin/server"), caller("/lib/other.so")}, {{}, {"/lib/*"}}).functions[0].callers.size(), 1u);
  EXPECT_FALSE(check({caller("/bin/server")}, {{"absent*"}, {}}).is_good());
}

TEST(Offline, SymbolsThatThePatchNeedsAreLookedForWithTheirVersions) {
  ElfFile needy = patch();
  needy.imports = {{"helper", "V_2", ""}, {"maybe", "", "", true}};
  ElfFile program = caller("/bin/server");
  program.exports = {function("helper")};
  program.exports[0].version = "V_1";

  const OfflineReport wrong = check_offline(needy, default_requests(needy), {program}, {});
  program.exports[0].version = "V_2";
  const OfflineReport right = check_offline(needy, default_requests(needy), {program}, {});

  EXPECT_EQ(wrong.undefined, std::vector<std::string>{"helper@V_2"});
  EXPECT_FALSE(wrong.is_good());
  EXPECT_TRUE(right.is_good());
}

TEST(Offline, AFileOfAnotherMachineIsLeftOut) {
  ElfFile other = caller("/bin/server");
  other.machine = &shunt::core::arch::kMachines[1];

  const OfflineReport report = check({other});

  ASSERT_EQ(report.left_out.size(), 1u);
  EXPECT_NE(report.left_out[0].reason.find("aarch64"), std::string::npos);
  EXPECT_FALSE(report.is_good());
}

}  // namespace
