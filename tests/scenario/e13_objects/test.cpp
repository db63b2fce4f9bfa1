// e13: every kind of object that a process holds: the program (whose name is empty, and whose base may be 0), the
// kernel's vDSO, the dynamic linker, libraries with either hash table or none, with packed relocations, of every linker
// there is. The same test is built as a program at a fixed address; static_program.cpp is one without dynamic linker.
//
// Shown to fail: with ObjectTable::executable_path() (lib/objects) answering "", TheProgram… matches no caller; with
// Resolver::is_searched() (lib/engine) not sparing the vDSO and the lazy search asking it first, TheVdso… gets its
// function; with for_each_candidate() (lib/elf) not reading DT_HASH, sysv_hash is not resolved; with
// Resolver::in_object() searching objects without a hash table, ALibraryWithoutAnyHashTable… gets an original that no
// call would have reached; with Image::parse() (lib/elf) refusing a base of 0, e13_objects_at_fixed_address finds no
// slot; with it reading a PT_DYNAMIC that is not there, e13_objects_static crashes.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/auxv.h>
#include <time.h>
#include <shunt/shunt.hpp>

#include <cerrno>
#include <string>

#include "../evidence.hpp"

extern "C" {
int answer();
extern int (*enlisted)();
}

namespace {

int our_answer() { return 11; }
int our_clock_gettime(clockid_t, timespec *) { return 11; }

shunt::Result<shunt::Plan> plan(const char *symbol, const shunt::Options &options) {
  auto transaction = shunt::Transaction::create();
  EXPECT_TRUE(transaction->add(symbol, &our_answer, options));
  return transaction->plan();
}

// ---- the objects of every process

TEST(e13_objects, TheProgramIsFoundByTheNameOfItsFile) {
  dl_iterate_phdr(
      [](dl_phdr_info *program, std::size_t, void *) {
        EXPECT_STREQ(program->dlpi_name, "");
#ifdef AT_FIXED_ADDRESS
        EXPECT_EQ(program->dlpi_addr, 0U);
#else
        EXPECT_NE(program->dlpi_addr, 0U);
#endif
        return 1;
      },
      nullptr);
  ASSERT_EQ(answer(), 1);

  auto change = shunt::redirect("answer", &our_answer, {.callers = {program_invocation_short_name}});

  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(answer(), 11);
  EXPECT_EQ(change->original()(), 1);
  ASSERT_TRUE(change->revert());
  EXPECT_EQ(answer(), 1);
}

TEST(e13_objects, TheVdsoIsNeitherCallerNorProvider) {
  const unsigned long vdso = getauxval(AT_SYSINFO_EHDR);
  if (vdso == 0) GTEST_SKIP() << "this kernel maps no vDSO";
  const auto inside =
      shunt::redirect("clock_gettime", &our_clock_gettime, {.caller_at = reinterpret_cast<void *>(vdso)});
  ASSERT_FALSE(inside);
  EXPECT_EQ(inside.error().code(), shunt::Code::no_caller) << inside.error().message();
  const auto only_there = shunt::redirect("__vdso_clock_gettime", &our_clock_gettime);
  ASSERT_FALSE(only_there);
  EXPECT_EQ(only_there.error().code(), shunt::Code::unknown_symbol) << only_there.error().message();

  const auto change =
      shunt::redirect("clock_gettime", &our_clock_gettime, {.callers = {program_invocation_short_name}});

  ASSERT_TRUE(change) << change.error().message();
  timespec now{};
  EXPECT_EQ(clock_gettime(CLOCK_MONOTONIC, &now), 11);
  Dl_info provider{};
  ASSERT_NE(dladdr(reinterpret_cast<void *>(change->original()), &provider), 0);
  EXPECT_NE(provider.dli_fbase, reinterpret_cast<void *>(vdso));
}

TEST(e13_objects, TheDynamicLinkerIsAProviderAndCallsNobody) {
  void *const library = dlopen("libe13_tls.so", RTLD_NOW);
  ASSERT_NE(library, nullptr) << dlerror();
  const auto calls_of_library = plan("__tls_get_addr", {.callers = {"libe13_tls*"}, .provider = "ld-linux*"});
  if (calls_of_library) {
    EXPECT_NE(std::string(calls_of_library->provider(0)).find("ld-linux"), std::string::npos);
    EXPECT_EQ(calls_of_library->original(0), dlsym(RTLD_DEFAULT, "__tls_get_addr"));
  } else {
    // Some machines need no such function for thread-local storage, and AddressSanitizer brings one of its own.
    const shunt::Code code = calls_of_library.error().code();
    EXPECT_TRUE(code == shunt::Code::unknown_symbol || code == shunt::Code::no_provider)
        << calls_of_library.error().message();
  }
  const auto calls_of_linker = plan("answer", {.callers = {"ld-linux*"}});
  ASSERT_FALSE(calls_of_linker);
  EXPECT_EQ(calls_of_linker.error().code(), shunt::Code::no_caller) << calls_of_linker.error().message();
  dlclose(library);
}

// ---- kinds of libraries

struct Library {
  Library(const std::string &name, int flags) : handle(dlopen(name.c_str(), flags)) {
    EXPECT_NE(handle, nullptr) << dlerror();
  }
  Library(const Library &) = delete;
  Library &operator=(const Library &) = delete;
  ~Library() { dlclose(handle); }
  [[nodiscard]] bool has(Elf64_Sxword tag) const {
    link_map *map = nullptr;
    dlinfo(handle, RTLD_DI_LINKMAP, &map);
    for (const Elf64_Dyn *entry = map->l_ld; entry->d_tag != DT_NULL; ++entry)
      if (entry->d_tag == tag) return true;
    return false;
  }
  void *handle;
};

void expect_redirected(const std::string &caller) {
  const auto call = enlisted;
  ASSERT_EQ(call(), 1);
  auto change = shunt::redirect("answer", &our_answer, {.callers = {caller}});
  ASSERT_TRUE(change) << change.error().message();
  EXPECT_EQ(call(), 11);
  EXPECT_EQ(change->original()(), 1);
  ASSERT_TRUE(change->revert());
  EXPECT_EQ(call(), 1);
}

/// A lazy slot of the consumer: the provider is searched for as the dynamic linker does, through the hash table.
void expect_found_lazily(const std::string &consumer, const std::string &symbol, int original) {
  const Library library("lib" + consumer + ".so", RTLD_LAZY);
  auto change = shunt::redirect(symbol.c_str(), &our_answer, {.callers = {"lib" + consumer + ".so"}});
  ASSERT_TRUE(change) << change.error().message();
  const auto consume = reinterpret_cast<int (*)()>(dlsym(library.handle, "consume"));
  EXPECT_EQ(consume(), 11);
  EXPECT_EQ(change->original()(), original);
  ASSERT_TRUE(change->revert());
  EXPECT_EQ(consume(), original);
}

struct Kind {
  const char *name;
  bool is_built;
  Elf64_Sxword has, has_not;
};
class Kinds : public ::testing::TestWithParam<Kind> {};

TEST_P(Kinds, AsCallerAndAsProvider) {
  const Kind kind = GetParam();
  if (!kind.is_built) GTEST_SKIP() << "the linkers of this build make no library of the kind " << kind.name;
  const std::string file = "libe13_" + std::string(kind.name) + ".so";
  const Library library(file, RTLD_NOW);
  EXPECT_TRUE(library.has(kind.has));
  EXPECT_FALSE(library.has(kind.has_not));
  expect_redirected(file);
  expect_found_lazily("e13_consumer_" + std::string(kind.name), "provided_by_" + std::string(kind.name), 5);
}

constexpr Elf64_Sxword kRelr = 36;  // DT_RELR
const Kind kKinds[] = {
    {"gnu_hash", HAVE_gnu_hash, DT_GNU_HASH, DT_HASH},
    {"sysv_hash", HAVE_sysv_hash, DT_HASH, DT_GNU_HASH},
    {"relr", HAVE_relr, kRelr, DT_REL},
    {"gold", HAVE_gold, DT_RELA, DT_REL},
    {"lld", HAVE_lld, DT_RELA, DT_REL},
};
INSTANTIATE_TEST_SUITE_P(e13, Kinds, ::testing::ValuesIn(kKinds), [](const auto &test) { return test.param.name; });

TEST(e13_objects, ALibraryWithoutAnyHashTableIsACallerAndProvidesNothing) {
  const Library library("libe13_no_hash.so", RTLD_NOW);
  ASSERT_FALSE(library.has(DT_GNU_HASH) || library.has(DT_HASH));
  expect_redirected("libe13_no_hash.so");
  expect_found_lazily("e13_consumer_no_hash_file", "provided_by_no_hash_file", 6);
}

}  // namespace
