// lib/objects/functions and what it stands on: the functions of real files, made by functions/build.
//
// Shown to fail (each guard taken out, the test seen to fail, the guard put back): see the comment at each test.
#include "objects/functions.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <string>

#include "elf/file_image.hpp"
#include "temporary_folder.hpp"

namespace {

using namespace shunt::core;
namespace fs = std::filesystem;

const fs::path kFiles = FUNCTION_FILES;
const std::string kNowhere = (kFiles / "no_such_root").string();

/// A file that is not loaded, laid out in memory, and its functions.
class Laid {
 public:
  explicit Laid(fs::path path, const std::string &root = kNowhere) : path_(std::move(path)) {
    const Fd fd(open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    auto image = FileImage::read(fd.get(), path_.c_str(), FileImage::Accept::programs);
    if (!image) return;
    image_.emplace(std::move(*image));
    Problem problem;
    ObjectFacts facts;
    EXPECT_TRUE(ObjectFacts::copy(image_->image(), path_.c_str(), facts, problem)) << problem.message;
    code_ = ObjectCode(image_->image());
    auto functions = ObjectFunctions::read(facts, root.c_str());
    EXPECT_TRUE(functions);
    if (functions) functions_ = std::move(*functions);
  }

  [[nodiscard]] bool is_laid() const { return image_.has_value(); }
  [[nodiscard]] const ObjectFunctions &functions() const { return functions_; }
  const ObjectFunctions *operator->() const { return &functions_; }
  ObjectCode &code() { return code_; }
  [[nodiscard]] std::uintptr_t base() const { return image_->image().base(); }

  /// The one function of that name; an empty one, and a failure, when there is none or several.
  [[nodiscard]] FunctionName the(std::string_view name) const {
    const std::vector<FunctionName> found = functions_.named(name);
    EXPECT_EQ(found.size(), 1U) << name;
    return found.size() == 1 ? found.front() : FunctionName{};
  }
  FunctionDescription described(std::uintptr_t address) {
    auto description = functions_.describe(address, code_);
    EXPECT_TRUE(description) << description.error().message;
    return description ? std::move(*description) : FunctionDescription{};
  }

 private:
  fs::path path_;
  std::optional<FileImage> image_;
  ObjectFunctions functions_;
  ObjectCode code_;
};

std::set<std::string> all_names(const Laid &file) {
  std::set<std::string> names;
  file->for_each([&](const FunctionName &one) {
    names.insert(std::string(one.source) + ':' + one.name + ' ' + std::to_string(one.address - file.base()) + ' ' +
                 std::to_string(one.size) + (one.is_exported ? " exported" : ""));
  });
  return names;
}

std::vector<std::string> texts(const std::vector<FunctionName> &names) {
  std::vector<std::string> all;
  for (const FunctionName &one : names) all.emplace_back(one.name);
  return all;
}

using Texts = std::vector<std::string>;

// is_source() that answers true; one that does not ask for the '/'.
TEST(Functions, TellStaticOnesOfOneNameApartByTheirSource) {
  const Laid file(kFiles / "whole.so");

  EXPECT_EQ(file->named("hidden").size(), 2U);
  const FunctionName one = file.the("one.c:hidden"), two = file.the("two.c:hidden");
  EXPECT_STREQ(one.source, "one.c");
  EXPECT_STREQ(two.source, "two.c");
  EXPECT_NE(one.address, two.address);
  EXPECT_FALSE(one.is_exported);
  EXPECT_TRUE(file->named("three.c:hidden").empty());
  EXPECT_TRUE(file->named("ne.c:hidden").empty());
  EXPECT_TRUE(file->named("one.c:exported").empty()) << "a global symbol has no source in the table";
}

// Builder::add_exported() that does nothing; one that adds what is known already.
TEST(Functions, SayWhichAreExported) {
  const Laid file(kFiles / "whole.so");

  EXPECT_TRUE(file.the("exported").is_exported);
  EXPECT_FALSE(file.the("inner").is_exported);
  EXPECT_FALSE(file.the("only_here").is_exported);
  EXPECT_TRUE(file->is_complete());
  EXPECT_EQ(std::string(file->where_names_came_from()), "the symbol table of " + (kFiles / "whole.so").string());
}

// at() that ends after the first.
TEST(Functions, HaveAllTheirNames) {
  const Laid file(kFiles / "whole.so");

  EXPECT_EQ(texts(file->at(file.the("exported").address)), (Texts{"alias", "exported"}));
  EXPECT_EQ(texts(file->at(file.the("inner").address)), Texts{"inner"});
  EXPECT_TRUE(file->at(file.the("inner").address + 1).empty());
  EXPECT_TRUE(file->at(0).empty());
}

// Without --icf this is two addresses with a name each.
TEST(Functions, ThatTheLinkerFoldedHaveBothNames) {
  if (!fs::exists(kFiles / "folded.so")) GTEST_SKIP() << "neither ld.lld nor gold is installed, which fold functions";
  const Laid file(kFiles / "folded.so");

  const FunctionName a = file.the("fold_a"), b = file.the("fold_b");
  EXPECT_EQ(a.address, b.address);
  EXPECT_EQ(texts(file->at(a.address)), (Texts{"fold_a", "fold_b"}));
}

// The '@' is not cut off.
TEST(Functions, WithVersionsAreFoundByTheirNames) {
  const Laid file(kFiles / "versioned.so");

  EXPECT_EQ(file->named("exported").size(), 2U) << "exported@V1, exported@@V2";
  EXPECT_EQ(texts(file->at(file.the("old_exported").address)), (Texts{"exported", "old_exported"}));
}

// NOTYPE or GNU_IFUNC taken for kFunction.
TEST(Functions, AreNeitherLabelsNorResolvers) {
  const Laid file(kFiles / "whole.so");

  EXPECT_TRUE(file->named("chosen").empty());
  EXPECT_TRUE(file->named("inside_it").empty());
  EXPECT_TRUE(file->named("behind_it").empty());
  const FunctionName assembled = file.the("assembled");
  const auto around = file->holding(assembled.address + 1);
  ASSERT_TRUE(around);
  EXPECT_STREQ(around->name, "assembled");
}

// suffix_of() without the case of a clone; clones_of() that takes Suffix::none.
TEST(Functions, OfAnotherSignatureAreClones) {
  const Laid file(kFiles / "whole.so");

  EXPECT_TRUE(file->named("scale").empty());
  EXPECT_EQ(texts(file->clones_of("scale")), Texts{"scale.constprop.0"});
  EXPECT_EQ(file->named("scale.constprop.0").size(), 1U);
  EXPECT_TRUE(file->clones_of("hidden").empty());
  EXPECT_TRUE(file->clones_of("scal").empty());
}

// suffix_of() without "lto_priv".
TEST(Functions, RenamedByLinkTimeOptimizationAreFoundByTheirOwnName) {
  const Laid file(kFiles / "lto.so");

  EXPECT_EQ(texts(file->named("hidden")), (Texts{"hidden.lto_priv.0", "hidden.lto_priv.1"}));
  EXPECT_EQ(texts(file->named("hidden.lto_priv.0")), Texts{"hidden.lto_priv.0"});
  EXPECT_TRUE(file->clones_of("hidden").empty());
}

// with_stem() that answers `found` alone, or puts both together.
TEST(Functions, OfCppThatAreStaticAreFoundByTheNameThatAPatchExports) {
  const Laid file(kFiles / "static_cpp.so");

  EXPECT_STREQ(file.the("_Z6hiddeni").name, "_ZL6hiddeni");
  EXPECT_STREQ(file.the("_ZN5rules4blowERKNS_6PlayerEi").name, "_ZN5rulesL4blowERKNS_6PlayerEi");
  EXPECT_STREQ(file.the("_ZL6hiddeni").name, "_ZL6hiddeni");
  EXPECT_STREQ(file.the("_ZN5rules4bothEi").name, "_ZN5rules4bothEi") << "there is one that is not static";
  EXPECT_STREQ(file.the("_Z4bothi").name, "_Z4bothi") << "rules::both is another function";
  EXPECT_STREQ(file.the("_Z5showni").name, "_Z5showni");
  EXPECT_TRUE(file->named("_ZL5showni").empty()) << "a static one is asked for";
}

TEST(Functions, OfAProgramAtAFixedAddressAreFound) {
  Laid file(kFiles / "program");

  const FunctionName hidden = file.the("one.c:hidden");
  EXPECT_NE(file.base(), 0U);
  EXPECT_GE(hidden.address - file.base(), 0x400000U);
  EXPECT_FALSE(file.the("main").is_exported);
  EXPECT_EQ(file.described(hidden.address).function.body.size, hidden.size);
}

TEST(Functions, InSectionsOfTheirOwnAreFound) {
  const Laid file(kFiles / "sections.so");

  EXPECT_EQ(file->named("hidden").size(), 2U);
  EXPECT_EQ(file.the("only_here").name, std::string("only_here"));
}

// ---- descriptions

// add_cold_parts() that adds nothing; one that does not compare the sources.
TEST(FunctionDescriptions, HaveTheColdPartOfTheirOwnSource) {
  Laid file(kFiles / "whole.so");

  const FunctionName one = file.the("one.c:unlikely"), two = file.the("two.c:unlikely");
  const FunctionDescription first = file.described(one.address), second = file.described(two.address);
  ASSERT_EQ(first.parts.size(), 1U);
  ASSERT_EQ(second.parts.size(), 1U);
  EXPECT_NE(first.parts[0].address, second.parts[0].address);
  EXPECT_EQ(first.function.parts.data(), first.parts.data());
  const auto part = file->holding(first.parts[0].address);
  ASSERT_TRUE(part);
  EXPECT_STREQ(part->name, "unlikely.cold");
  EXPECT_STREQ(part->source, "one.c");
  EXPECT_TRUE(file.described(file.the("inner").address).parts.empty());
}

// describe() that takes whatever has a frame.
TEST(FunctionDescriptions, AreNotMadeOfPartsAndMiddles) {
  Laid file(kFiles / "whole.so");
  const FunctionName hidden = file.the("one.c:hidden");
  const FunctionDescription unlikely = file.described(file.the("one.c:unlikely").address);
  ASSERT_EQ(unlikely.parts.size(), 1U);

  const auto middle = file->describe(hidden.address + 1, file.code());
  const auto part = file->describe(unlikely.parts[0].address, file.code());
  const auto elsewhere = file->describe(file.code().high() + 4096, file.code());

  ASSERT_FALSE(middle);
  EXPECT_EQ(middle.error().code, Code::unknown_symbol);
  EXPECT_NE(middle.error().message.find("it lies in hidden, at +0x1"), std::string::npos) << middle.error().message;
  ASSERT_FALSE(part);
  EXPECT_NE(part.error().message.find("unlikely.cold"), std::string::npos) << part.error().message;
  ASSERT_FALSE(elsewhere);
}

// find_padding() that passes over labels; a size of 0 that is left so.
TEST(FunctionDescriptions, KnowTheirBodyAndWhatIsAroundIt) {
  Laid file(kFiles / "whole.so");
  const FunctionName assembled = file.the("assembled"), unsized = file.the("without_size");

  const FunctionDescription label_behind = file.described(assembled.address);
  const FunctionDescription by_frame = file.described(unsized.address);

  EXPECT_EQ(label_behind.function.body.size, 3U);
  EXPECT_EQ(label_behind.function.after, 4U) << "up to the label behind_it";
  EXPECT_FALSE(label_behind.has_frame);
  EXPECT_EQ(unsized.size, 0U);
  EXPECT_TRUE(by_frame.has_frame);
  EXPECT_EQ(by_frame.function.body.size, 3U);
  EXPECT_NE(by_frame.function.jumps, nullptr);
  EXPECT_TRUE(by_frame.function.text.contains(unsized.address, 3));
}

// describe() without the part about frames; find_padding() without frames.
TEST(FunctionDescriptions, OfAStrippedFileComeFromItsFrames) {
  Laid whole(kFiles / "whole.so"), stripped(kFiles / "stripped.so");
  const FunctionName hidden = whole.the("only_here");
  const std::uintptr_t there = stripped.base() + (hidden.address - whole.base());

  ASSERT_TRUE(stripped->at(there).empty());
  const FunctionDescription known = whole.described(hidden.address), found = stripped.described(there);

  EXPECT_EQ(found.function.body.size, hidden.size);
  EXPECT_EQ(found.function.before, known.function.before);
  EXPECT_EQ(found.function.after, known.function.after);
}

// ---- debug files

// find_debug_file() that finds nothing.
TEST(DebugFiles, AreFoundByBuildId) {
  const Laid whole(kFiles / "whole.so"), stripped(kFiles / "stripped.so", (kFiles / "root").string());

  EXPECT_TRUE(stripped->is_complete());
  EXPECT_EQ(all_names(stripped), all_names(whole));
  EXPECT_NE(
      std::string(stripped->where_names_came_from()).find("the debug file " + (kFiles / "root/.build-id").string()),
      std::string::npos)
      << stripped->where_names_came_from();
}

TEST(DebugFiles, ThatAreMissingAreNamed) {
  const Laid file(kFiles / "stripped.so");

  EXPECT_FALSE(file->is_complete());
  EXPECT_TRUE(file->named("only_here").empty());
  EXPECT_TRUE(file.the("exported").is_exported);
  const std::string origin = file->where_names_came_from();
  EXPECT_NE(origin.find("the dynamic symbol table only"), std::string::npos) << origin;
  EXPECT_NE(origin.find("no_such_root/.build-id/"), std::string::npos) << origin;
}

// why_not() without the build-id.
TEST(DebugFiles, OfAnotherBuildAreNotTaken) {
  const Laid file(kFiles / "stripped.so", (kFiles / "wrong_root").string());

  EXPECT_FALSE(file->is_complete());
  EXPECT_NE(std::string(file->where_names_came_from()).find("has another build-id"), std::string::npos)
      << file->where_names_came_from();
}

// run() without the second part.
TEST(DebugFiles, AreFoundByLink) {
  const Laid whole(kFiles / "whole.so");
  for (const char *name : {"linked.so", "linked_hidden.so", "linked_root.so", "linked_no_id.so"}) {
    SCOPED_TRACE(name);
    const Laid file(kFiles / name, (kFiles / "root_of_links").string());
    EXPECT_TRUE(file->is_complete()) << file->where_names_came_from();
    EXPECT_EQ(file->named("hidden").size(), 2U);
  }
}

// why_not() without the sum; without the build-id; without why_not_trusted().
TEST(DebugFiles, ThatALinkDoesNotMeanAreNotTaken) {
  const std::pair<const char *, const char *> wrong[] = {{"wrong_sum.so", "its sum is another"},
                                                         {"wrong_build.so", "has another build-id"},
                                                         {"untrusted.so", "others may write it"}};
  for (const auto &[name, why] : wrong) {
    SCOPED_TRACE(name);
    const Laid file(kFiles / name);
    EXPECT_FALSE(file->is_complete());
    EXPECT_NE(std::string(file->where_names_came_from()).find(why), std::string::npos) << file->where_names_came_from();
  }
}

// ---- loaded objects

/// A library of kFiles under a path of its own, loaded from there.
class LoadedLibrary {
 public:
  explicit LoadedLibrary(const char *name) : path_(folder_.path() / name) {
    fs::copy_file(kFiles / name, path_);
    handle_ = dlopen(path_.c_str(), RTLD_NOW | RTLD_LOCAL);
    EXPECT_NE(handle_, nullptr) << dlerror();
  }
  LoadedLibrary(const LoadedLibrary &) = delete;
  LoadedLibrary &operator=(const LoadedLibrary &) = delete;
  ~LoadedLibrary() { dlclose(handle_); }

  [[nodiscard]] const fs::path &path() const { return path_; }
  [[nodiscard]] const fs::path &folder() const { return folder_.path(); }
  void *symbol(const char *name) { return dlsym(handle_, name); }
  /// Puts another file there, as an upgrade does.
  void replace_by(const fs::path &file) {
    fs::copy_file(file, folder_.path() / "new");
    fs::rename(folder_.path() / "new", path_);
  }
  ObjectFunctions functions() {
    ObjectTable table;
    ObjectFacts facts;
    Problem problem;
    table.while_locked(problem, [&](Problem &failed) {
      const Object *const object = table.at(reinterpret_cast<std::uintptr_t>(symbol("exported")));
      ASSERT_NE(object, nullptr);
      ObjectFacts::copy(*object, facts, failed);
    });
    EXPECT_FALSE(problem) << problem.message;
    auto functions = ObjectFunctions::read(facts, kNowhere.c_str());
    EXPECT_TRUE(functions);
    return std::move(*functions);
  }

 private:
  unit::TemporaryFolder folder_;
  fs::path path_;
  void *handle_ = nullptr;
};

TEST(LoadedFunctions, LieWhereTheObjectWasLoaded) {
  LoadedLibrary library("whole.so");

  const ObjectFunctions functions = library.functions();

  const auto exported = functions.named("exported");
  ASSERT_EQ(exported.size(), 1U);
  EXPECT_EQ(exported[0].address, reinterpret_cast<std::uintptr_t>(library.symbol("exported")));
  const auto hidden = functions.named("one.c:hidden");
  ASSERT_EQ(hidden.size(), 1U);
  EXPECT_EQ(reinterpret_cast<int (*)(int)>(hidden[0].address)(4), 13);
}

// open_own_file() that compares nothing.
TEST(LoadedFunctions, AreNotReadFromAFileThatCameInItsPlace) {
  for (const char *name : {"whole.so", "no_id.so"}) {
    SCOPED_TRACE(name);
    LoadedLibrary library(name);
    EXPECT_TRUE(library.functions().is_complete());

    library.replace_by(kFiles / "sections.so");

    const ObjectFunctions functions = library.functions();
    EXPECT_FALSE(functions.is_complete());
    EXPECT_NE(std::string(functions.where_names_came_from()).find("is another file than the one that is loaded"),
              std::string::npos)
        << functions.where_names_came_from();
    EXPECT_EQ(functions.named("exported").size(), 1U) << "it is in memory";
  }
}

// is_mapped_at() that answers true: the same bytes are not the same file, without a build-id that says so.
TEST(LoadedFunctions, AreReadFromACopyOnlyByBuildId) {
  LoadedLibrary with_id("whole.so"), without_id("no_id.so");

  EXPECT_TRUE(without_id.functions().is_complete());
  with_id.replace_by(kFiles / "whole.so");
  without_id.replace_by(kFiles / "no_id.so");

  EXPECT_TRUE(with_id.functions().is_complete());
  EXPECT_FALSE(without_id.functions().is_complete());
}

// open_own_file() without is_trusted(); without is_mapped_at().
TEST(LoadedFunctions, AreReadFromAFileThatOthersMayWriteOnlyWhenItIsTheOneThatIsMapped) {
  LoadedLibrary library("whole.so");
  const auto everybody = fs::perms::group_write | fs::perms::others_write;

  fs::permissions(library.path(), everybody, fs::perm_options::add);
  EXPECT_TRUE(library.functions().is_complete());

  library.replace_by(kFiles / "whole.so");
  EXPECT_TRUE(library.functions().is_complete());
  fs::permissions(library.path(), everybody, fs::perm_options::add);
  EXPECT_FALSE(library.functions().is_complete());
}

TEST(LoadedFunctions, OfAFileThatIsGoneAreTheExportedOnes) {
  LoadedLibrary library("whole.so");

  fs::remove(library.path());

  const ObjectFunctions functions = library.functions();
  EXPECT_FALSE(functions.is_complete());
  EXPECT_NE(std::string(functions.where_names_came_from()).find("is not there"), std::string::npos)
      << functions.where_names_came_from();
}

/// Static, so in this program's .symtab alone.
[[gnu::noinline]] int only_in_this_program(int a) {
  asm volatile("");
  return a + 1;
}

TEST(LoadedFunctions, OfTheProgramAreReadFromItsFile) {
  ObjectTable table;
  ObjectFacts facts;
  Problem problem;
  table.while_locked(problem, [&](Problem &failed) { ObjectFacts::copy(table[0], facts, failed); });

  const auto functions = ObjectFunctions::read(facts, kNowhere.c_str());

  ASSERT_TRUE(functions);
  const auto names = functions->at(reinterpret_cast<std::uintptr_t>(&only_in_this_program));
  ASSERT_FALSE(names.empty()) << functions->where_names_came_from();
  EXPECT_NE(std::string(names[0].name).find("only_in_this_program"), std::string::npos);
}

// ---- hostile files

std::string bytes_of(const fs::path &path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Asks everything there is to ask; what is answered must lie in the object.
void ask_everything(Laid &file) {
  std::size_t count = 0;
  file->for_each([&](const FunctionName &one) {
    ++count;
    EXPECT_GE(one.address, file.code().low());
    EXPECT_LE(one.size, file.code().high() - one.address);
    EXPECT_FALSE(std::string(one.name).empty());
    EXPECT_LT(std::string(one.source).size(), 1U << 20);
  });
  for (const char *name : {"hidden", "one.c:hidden", "scale", "exported"}) {
    for (const FunctionName &one : file->named(name)) {
      const auto description = file->describe(one.address, file.code());
      if (!description) continue;
      const arch::Function &function = description->function;
      EXPECT_TRUE(function.text.contains(function.body.address - function.before,
                                         function.before + function.body.size + function.after));
    }
    (void)file->clones_of(name);
  }
  EXPECT_LT(count, 10000U);
}

// SymbolFile without is_inside(); Builder::add() without the comparison of st_name (AddressSanitizer says so); sizes left as they are.
TEST(HostileFiles, CanBeCutAnywhere) {
  const unit::TemporaryFolder folder;
  const std::string whole = bytes_of(kFiles / "whole.so");
  for (std::size_t size = 0; size < whole.size(); size += 97) {
    std::ofstream(folder.path() / "cut.so", std::ios::binary) << whole.substr(0, size);
    Laid file(folder.path() / "cut.so");
    if (file.is_laid()) ask_everything(file);
  }
}

TEST(HostileFiles, MayLieInEveryHeaderAndSymbol) {
  const unit::TemporaryFolder folder;
  const std::string whole = bytes_of(kFiles / "whole.so");
  Elf64_Ehdr header;
  std::memcpy(&header, whole.data(), sizeof header);
  std::mt19937 random(4711);
  const std::uint64_t kNumbers[] = {0, 1, 0x7fffffff, 0xffffffff, 0x7fffffffffffffff, ~std::uint64_t{0}, whole.size()};
  for (int round = 0; round < 1000; ++round) {
    std::string bytes = whole;
    for (int change = 0; change < 3; ++change) {
      // Section headers, and what is before them: .symtab and its strings.
      const std::size_t span = whole.size() - header.e_shoff,
                        from = round % 2 == 0 ? header.e_shoff : header.e_shoff - span;
      const std::size_t at = from + random() % (span - 8) / 4 * 4;
      const std::uint64_t number = random() % 2 == 0 ? kNumbers[random() % std::size(kNumbers)] : random();
      std::memcpy(bytes.data() + at, &number, random() % 2 == 0 ? 4 : 8);
    }
    std::ofstream(folder.path() / "lies.so", std::ios::binary) << bytes;
    Laid file(folder.path() / "lies.so");
    if (file.is_laid()) ask_everything(file);
  }
}

// kMaximumSymbols, kMaximumStrings and the comparison with the file's size: a sparse file claims a table of 8 GiB.
TEST(HostileFiles, DoNotTakeMemoryByClaims) {
  const unit::TemporaryFolder folder;
  const fs::path path = folder.path() / "large.so";
  fs::copy_file(kFiles / "whole.so", path);
  std::string bytes = bytes_of(path);
  Elf64_Ehdr header;
  std::memcpy(&header, bytes.data(), sizeof header);
  for (unsigned k = 0; k < header.e_shnum; ++k) {
    Elf64_Shdr section;
    char *const at = bytes.data() + header.e_shoff + k * sizeof section;
    std::memcpy(&section, at, sizeof section);
    if (section.sh_type == SHT_SYMTAB) section.sh_size = std::uint64_t{8} << 30;
    std::memcpy(at, &section, sizeof section);
  }
  std::ofstream(path, std::ios::binary) << bytes;
  fs::resize_file(path, std::uint64_t{9} << 30);

  const Laid file(path);

  EXPECT_FALSE(file->is_complete());
  EXPECT_NE(std::string(file->where_names_came_from()).find("impossible size"), std::string::npos)
      << file->where_names_came_from();
  EXPECT_LT(file->bytes_used(), 1U << 20);
}

TEST(HostileFiles, ThatAreNoFilesAreRefused) {
  SymbolFile file;
  std::string why;
  EXPECT_FALSE(SymbolFile::open("/dev/null", file, why));
  EXPECT_EQ(why, "is not a regular file");
  EXPECT_FALSE(SymbolFile::open(kFiles.c_str(), file, why));
  EXPECT_EQ(why, "is not a regular file");
  EXPECT_FALSE(SymbolFile::open((kFiles / "versions.map").c_str(), file, why));
  EXPECT_EQ(why, "is not an ELF file");
}

}  // namespace
