// A file that is no patch for this process is an error that says what is wrong with it. Nothing has changed then, and none of
// the file's code has run.
//
// Shown to fail (each guard of lib/ taken out, the test seen to fail, the guard put back): see at each test.
#include "patches.hpp"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "../evidence.hpp"
#include "target.hpp"

namespace {

using shunt::Code;
using shunt::Patch;

struct Expected {
  Code code;
  const char *message;  // a part of it
  const char *symbol = "";
  int number = 0;
};

void expect_facts(const shunt::Error &error, const std::string &object, const Expected &expected) {
  EXPECT_EQ(error.code(), expected.code) << error.message();
  EXPECT_EQ(error.object(), object);
  EXPECT_STREQ(error.symbol(), expected.symbol);
  EXPECT_EQ(error.system_errno(), expected.number);
  EXPECT_NE(std::string(error.message()).find(expected.message), std::string::npos) << error.message();
}

void expect_refused(const std::string &path, const Expected &expected, const shunt::PatchOptions &options = {}) {
  SCOPED_TRACE(path);
  const evidence::State before = evidence::state();
  const int constructed = constructions;

  const auto patch = Patch::load(path.c_str(), options);

  ASSERT_FALSE(patch);
  expect_facts(patch.error(), path, expected);
  EXPECT_EQ(evidence::difference(before), "");
  EXPECT_EQ(constructions, constructed) << "its constructor ran";
}

Elf64_Ehdr &header_of(std::string &bytes) { return *reinterpret_cast<Elf64_Ehdr *>(bytes.data()); }

// api.cpp: no error where open() fails; patch.cpp, private_copy(): no look at the kind of file.
TEST(PatchRefused, AFileThatCannotBeRead) {
  expect_refused("/nonexistent/patch.so", {Code::patch_unreadable, "No such file", "", ENOENT});
  expect_refused("/", {Code::patch_unreadable, "regular", "", EINVAL});
  expect_refused("/dev/null", {Code::patch_unreadable, "regular", "", EINVAL});

  shunt_error *error = nullptr;
  shunt_patch *patch = nullptr;
  EXPECT_EQ(shunt_patch_load_fd(-1, "closed.so", nullptr, &patch, &error), SHUNT_E_patch_unreadable);
  expect_facts(shunt::Error(error), "closed.so", {Code::patch_unreadable, "", "", EBADF});
  EXPECT_EQ(patch, nullptr);

  error = nullptr;
  const int write_only = open(built("fix").c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_NE(write_only, -1);
  EXPECT_EQ(shunt_patch_load_fd(write_only, "write-only.so", nullptr, &patch, &error), SHUNT_E_patch_unreadable);
  expect_facts(shunt::Error(error), "write-only.so", {Code::patch_unreadable, "", "", EBADF});
  close(write_only);
}

// file_image.cpp, read(): without the look at the magic number, or at e_type.
TEST(PatchRefused, AFileThatIsNoSharedLibrary) {
  const Folder folder;
  expect_refused(folder.write("empty.so", ""), {Code::patch_malformed, "too short"});
  expect_refused(folder.write("text.so", std::string(4096, 'x')), {Code::patch_malformed, "not an ELF file"});

  std::string bytes = bytes_of(built("fix"));
  for (const Elf64_Half type : {ET_REL, ET_EXEC, ET_CORE, ET_NONE}) {
    header_of(bytes).e_type = type;
    expect_refused(folder.write("other-type.so", bytes), {Code::patch_malformed, "not a shared library"});
  }
}

// file_image.cpp, read(): without the look at class, byte order and machine.
TEST(PatchRefused, AFileForAnotherArchitecture) {
  const Folder folder;
  const auto expect_other_architecture = [&](void (*change)(Elf64_Ehdr &)) {
    std::string bytes = bytes_of(built("fix"));
    change(header_of(bytes));
    expect_refused(folder.write("other-machine.so", bytes), {Code::patch_architecture, "another architecture"});
  };
  expect_other_architecture([](Elf64_Ehdr &header) { header.e_machine = EM_S390; });
  expect_other_architecture([](Elf64_Ehdr &header) { header.e_ident[EI_CLASS] = ELFCLASS32; });
  expect_other_architecture([](Elf64_Ehdr &header) { header.e_ident[EI_DATA] ^= ELFDATA2LSB ^ ELFDATA2MSB; });
}

TEST(PatchRefused, ARealLibraryForAnotherArchitecture) {
#if defined(__aarch64__)
  GTEST_SKIP() << "this is the architecture that the library is for";
#endif
  if (access(built("aarch64").c_str(), R_OK) != 0) GTEST_SKIP() << "there is no aarch64-linux-gnu-gcc";
  expect_refused(built("aarch64"), {Code::patch_architecture, "machine 183"});
}

// patch.cpp, names_nobody_defines() stops after the first.
TEST(PatchRefused, AFileThatNeedsWhatNobodyDefines) {
  const evidence::State before = evidence::state();

  const auto patch = Patch::load(built("undefined").c_str());

  ASSERT_FALSE(patch);
  const std::string message = patch.error().message(), symbol = patch.error().symbol();
  EXPECT_EQ(patch.error().code(), Code::patch_undefined_symbols) << message;
  EXPECT_EQ(patch.error().object(), built("undefined"));
  EXPECT_TRUE(symbol == "nobody_defines_this" || symbol == "nor_this") << symbol;
  EXPECT_NE(message.find("nobody_defines_this"), std::string::npos) << message;
  EXPECT_NE(message.find("nor_this"), std::string::npos) << message;
  EXPECT_EQ(message.find("constructions"), std::string::npos) << message << ": that one is defined";
  EXPECT_EQ(evidence::difference(before), "");
}

// exports.cpp: without the look whether anything was chosen.
TEST(PatchRefused, AFileThatExportsNoFunction) {
  expect_refused(built("no_exports"), {Code::patch_no_exports, "exports no function"});
  expect_refused(built("only_weak"), {Code::patch_no_exports, "weak"});
}

// exports.cpp: without the look whether the patch exports what is wanted.
TEST(PatchRefused, ANameThatItDoesNotExport) {
  expect_refused(built("fix"), {Code::unknown_symbol, "'ansewr'", "ansewr"}, {.symbols = {"answer", "ansewr"}});
  expect_refused(built("fix"), {Code::unknown_symbol, "'eleven'", "eleven"}, {.symbols = {"answer=eleven"}});
  expect_refused(built("fix"), {Code::unknown_symbol, "'constructions'", "constructions"},
                 {.symbols = {"answer=constructions"}});
}

void expect_not_applied(Patch &patch, const std::string &object, const Expected &expected) {
  const evidence::State before = evidence::state();

  const auto plan = patch.plan();
  ASSERT_FALSE(plan);
  expect_facts(plan.error(), object, expected);

  const auto applied = patch.apply();
  ASSERT_FALSE(applied);
  expect_facts(applied.error(), object, expected);
  EXPECT_FALSE(patch.is_applied());
  EXPECT_EQ(evidence::difference(before), "");
  EXPECT_EQ(a_calls_answer(), 1);
}

// patch.cpp: without nothing_matches().
TEST(PatchRefused, AFileThatMatchesNothing) {
  auto patch = Patch::load(built("renamed").c_str());
  ASSERT_TRUE(patch) << patch.error().message();
  expect_not_applied(*patch, built("renamed"), {Code::patch_matches_nothing, "eleven"});
}

// patch.cpp: is_optional always true.
TEST(PatchRefused, ANameOfTheUserThatMatchesNothing) {
  auto patch = Patch::load(built("fix").c_str(), {.symbols = {"answer", "nobody_calls_this"}});
  ASSERT_TRUE(patch) << patch.error().message();
  expect_not_applied(*patch, "", {Code::unknown_symbol, "nobody_calls_this", "nobody_calls_this"});
}

/// What the dynamic linker maps of the file: its first bytes, this many.
std::size_t loaded_bytes(std::string bytes) {
  std::size_t loaded = 0;
  for (int k = 0; k < header_of(bytes).e_phnum; ++k) {
    Elf64_Phdr segment;
    std::memcpy(&segment, bytes.data() + header_of(bytes).e_phoff + k * sizeof segment, sizeof segment);
    if (segment.p_type == PT_LOAD) loaded = std::max(loaded, std::size_t{segment.p_offset + segment.p_filesz});
  }
  return loaded;
}

// file_image.cpp, read(): without the look whether a segment reaches outside the file, and content with what it could read of it.
TEST(PatchRefused, AFileThatIsCutAnywhereInWhatIsLoaded) {
  const std::string bytes = bytes_of(built("small"));
  const std::size_t loaded = loaded_bytes(bytes);
  ASSERT_LT(loaded, bytes.size());
  const int file = memfd_create("cut.so", MFD_CLOEXEC);
  ASSERT_EQ(write(file, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  const std::string path = "/proc/self/fd/" + std::to_string(file);
  const evidence::State before = evidence::state();

  for (std::size_t size = bytes.size() + 1; size-- > 0;) {
    ASSERT_EQ(ftruncate(file, static_cast<off_t>(size)), 0);
    const auto patch = Patch::load(path.c_str());
    ASSERT_EQ(patch.has_value(), size >= loaded) << "cut to " << size << " of " << bytes.size() << " bytes";
    if (!patch) expect_facts(patch.error(), path, {Code::patch_malformed, ""});
  }
  EXPECT_EQ(evidence::difference(before), "");
  close(file);
}

// The same: the section headers asked for.
TEST(PatchRefused, NoFileForWhatIsNotLoaded) {
  const Folder folder;
  const std::string bytes = bytes_of(built("small"));

  auto patch = Patch::load(folder.write("cut.so", bytes.substr(0, loaded_bytes(bytes))).c_str());

  ASSERT_TRUE(patch) << patch.error().message();
  ASSERT_TRUE(patch->apply());
  EXPECT_EQ(a_calls_answer(), 11);
}

}  // namespace
