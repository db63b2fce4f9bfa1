// lib/elf/file: files of every machine, and files that lie.
//
// Shown to fail: file.cpp with DT_PLTREL not asked (the jump slot of
// the DT_REL files is not there), with DT_HASH words of 32 bits on s390x (the exports are missing), without the check that
// version chains lead forward (LiesDoNoHarm does not end).
#include <elf.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "base/fd.hpp"
#include "elf/file.hpp"
#include "foreign_elf.hpp"

namespace {

using namespace shunt::core;

Fd file_of(const std::vector<std::uint8_t> &bytes) {
  Fd fd(memfd_create("elf", MFD_CLOEXEC));
  EXPECT_EQ(write(fd.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  return fd;
}

Result<ElfFile> read(const std::vector<std::uint8_t> &bytes) { return ElfFile::read(file_of(bytes).get(), "file.so"); }

const FileImport *find(const ElfFile &file, const std::string &name) {
  for (const FileImport &import : file.imports)
    if (import.name == name) return &import;
  return nullptr;
}

class EveryMachine : public testing::TestWithParam<unit::ForeignSpec> {};

TEST_P(EveryMachine, IsReadAsItIs) {
  const Result<ElfFile> file = read(unit::write_foreign_elf(GetParam()));

  ASSERT_TRUE(file) << file.error().message;
  EXPECT_STREQ(file->machine->name, GetParam().machine.name);
  EXPECT_EQ(file->soname, "libforeign.so");
  EXPECT_EQ(file->needed, std::vector<std::string>{"libgiver.so"});
  EXPECT_EQ(file->run_path, "/opt");
  EXPECT_EQ(file->build_id, "abcd0102");
  ASSERT_EQ(file->imports.size(), 2u);
  const FileImport *taken = find(*file, "taken"), *maybe = find(*file, "maybe");
  ASSERT_TRUE(taken != nullptr && maybe != nullptr);
  EXPECT_EQ(taken->version, "V_1");
  EXPECT_EQ(taken->library, "libgiver.so");
  EXPECT_FALSE(taken->is_weak);
  EXPECT_EQ(taken->jump_slots, 1u);
  EXPECT_EQ(taken->absolutes, 1u);
  EXPECT_TRUE(maybe->is_weak);
  EXPECT_EQ(maybe->version, "");
  EXPECT_EQ(maybe->slots(), 1u);
  ASSERT_EQ(file->exports.size(), 2u);
  EXPECT_TRUE(file->find_export("given")->is_function);
  EXPECT_EQ(file->find_export("given")->version, "OWN_1");
  EXPECT_FALSE(file->find_export("table")->is_function);
}

std::vector<unit::ForeignSpec> all_specs() {
  std::vector<unit::ForeignSpec> specs;
  for (const arch::Machine &machine : arch::kMachines)
    for (const bool has_addends : {true, false})
      for (const bool has_gnu_hash : {true, false}) specs.push_back({machine, has_addends, has_gnu_hash});
  return specs;
}

INSTANTIATE_TEST_SUITE_P(, EveryMachine, testing::ValuesIn(all_specs()), [](const auto &info) {
  std::string name = std::string(info.param.machine.name) + (info.param.has_addends ? "_rela" : "_rel") +
                     (info.param.has_gnu_hash ? "_gnu_hash" : "_hash");
  for (char &c : name)
    if (c == '-') c = '_';
  return name;
});

unit::ForeignSpec spec_of(const char *name) {
  for (const arch::Machine &machine : arch::kMachines)
    if (std::string(machine.name) == name) return {machine};
  throw std::out_of_range(name);
}

TEST(ElfFile, AnUnknownMachineIsRefusedByItsNumber) {
  unit::ForeignSpec spec = spec_of("x86-64");
  spec.machine.number = 4711;

  const Result<ElfFile> file = read(unit::write_foreign_elf(spec));

  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, Code::patch_architecture);
  EXPECT_NE(file.error().message.find("4711"), std::string::npos) << file.error().message;
}

TEST(ElfFile, TruncatedAnywhereIsAnErrorOrLess) {
  for (const char *name : {"x86-64", "s390x", "arm"}) {
    const std::vector<std::uint8_t> whole = unit::write_foreign_elf(spec_of(name));
    for (std::size_t size = 0; size < whole.size(); ++size) {
      const Result<ElfFile> file = read({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
      if (!file) {
        EXPECT_FALSE(file.error().message.empty());
      }
    }
  }
}

TEST(ElfFile, LiesDoNoHarm) {
  std::mt19937 random(20240229);
  for (const char *name : {"x86-64", "s390x", "i386"}) {
    const std::vector<std::uint8_t> whole = unit::write_foreign_elf(spec_of(name));
    for (int round = 0; round < 2000; ++round) {
      std::vector<std::uint8_t> lying = whole;
      for (int k = 0; k < 4; ++k) {
        static constexpr std::uint8_t kValues[] = {0, 1, 0x7f, 0x80, 0xff};
        lying[random() % lying.size()] = kValues[random() % std::size(kValues)];
      }
      (void)read(lying);
    }
  }
}

TEST(ElfFile, OtherFilesAreNamedForWhatTheyAre) {
  EXPECT_EQ(read({}).error().code, Code::patch_malformed);
  EXPECT_EQ(read(std::vector<std::uint8_t>(100, 'x')).error().code, Code::patch_malformed);
  EXPECT_EQ(ElfFile::open("/nowhere/file.so").error().code, Code::patch_unreadable);
  EXPECT_EQ(ElfFile::open("/").error().code, Code::patch_malformed);
  EXPECT_EQ(ElfFile::open("/dev/null").error().code, Code::patch_malformed);
}

TEST(ElfFile, ThisProgramIsReadAsToolsReadIt) {
  const Result<ElfFile> file = ElfFile::open("/proc/self/exe");

  ASSERT_TRUE(file) << file.error().message;
  EXPECT_NE(find(*file, "memfd_create"), nullptr);
  EXPECT_FALSE(file->build_id.empty());
}

/// A library that a cross compiler made: what linkers of that machine really write.
class CrossCompiled : public testing::TestWithParam<const char *> {};

TEST_P(CrossCompiled, IsRead) {
  const std::string triplet = GetParam();
  const std::string folder = (std::filesystem::temp_directory_path() / "shunt-cross-XXXXXX").string();
  std::string path = folder;
  ASSERT_NE(mkdtemp(path.data()), nullptr);
  const std::string command =
      "echo 'int taken(int); int given(int x) { return taken(x) + 1; } int (*table)(int) = taken;' | " + triplet +
      "-gcc -x c -fPIC -shared -nostdlib -Wl,--build-id -o " + path + "/cross.so - 2>/dev/null";
  const bool is_compiled = std::system(command.c_str()) == 0;
  const Result<ElfFile> file = ElfFile::open(path + "/cross.so");
  std::filesystem::remove_all(path);
  if (!is_compiled) GTEST_SKIP() << triplet << "-gcc is not installed";

  ASSERT_TRUE(file) << file.error().message;
  const FileImport *taken = find(*file, "taken");
  ASSERT_NE(taken, nullptr);
  EXPECT_EQ(taken->jump_slots, 1u);
  EXPECT_EQ(taken->absolutes + taken->glob_dats, 1u);
  EXPECT_EQ(file->build_id.size(), 40u);
  ASSERT_NE(file->find_export("given"), nullptr);
  EXPECT_TRUE(file->find_export("given")->is_function);
}

INSTANTIATE_TEST_SUITE_P(, CrossCompiled, testing::Values("aarch64-linux-gnu", "s390x-linux-gnu"),
                         [](const auto &info) { return std::string(info.param).substr(0, 5); });

}  // namespace
