// lib/base, and lib/elf/name_hash.hpp, which is as basic.
//
// Shown to fail (each guard of lib/ taken out, the test seen to fail, the guard put back):
//   Glob…        glob.hpp without `text = ++resume`
//   PageVector…  page_vector.hpp: reserve() without the check of the count; swap() of two of three members
//   NameHash…    name_hash.hpp with `>= 31` for `>= 32`; x86_64/name_fold.hpp without the masks
//   Problem…     error.cpp, Problem::set() without its first line
#include <gtest/gtest.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "base/glob.hpp"
#include "base/guarded_fd.hpp"
#include "base/page_vector.hpp"
#include "base/result.hpp"
#include "base/sha256.hpp"
#include "elf/name_hash.hpp"
#include "guarded.hpp"

namespace {

using namespace shunt::core;
using unit::Guarded;

TEST(Glob, MatchesTheWholeText) {
  const struct {
    const char *glob, *text;
    bool matches;
  } cases[] = {
      {"", "", true},
      {"", "a", false},
      {"a", "", false},
      {"*", "anything", true},
      {"**", "", true},
      {"?", "", false},
      {"?", "a", true},
      {"??", "a", false},
      {"a", "ab", false},
      {"b", "ab", false},
      {"*b", "ab", true},
      {"a*", "ab", true},
      {"*a*", "xxaxx", true},
      {"*ab", "aab", true},
      {"*ab", "abab", true},
      {"*ab*ba", "abba", true},
      {"*ab*ba", "aba", false},
      {"a*?c", "abc", true},
      {"a*?c", "ac", false},
      {"lib*.so.?", "libc.so.6", true},
      {"lib*.so", "libc.so.6", false},
      {"[a]", "a", false},
      {"[a]", "[a]", true},
      {"a\\*", "a*", false},
      {"*.so", ".so", true},
      {"/usr/*/x", "/usr/a/b/x", true},
  };
  for (const auto &[glob, text, matches] : cases)
    EXPECT_EQ(glob_matches(glob, text), matches) << '"' << glob << "\" \"" << text << '"';
}

TEST(Glob, ManyStarsTakeNoExponentialTime) {
  std::string glob, text(5000, 'a');
  for (int k = 0; k < 200; ++k) glob += "*a";

  EXPECT_FALSE(glob_matches((glob + "b").c_str(), text.c_str()));
  EXPECT_TRUE(glob_matches(glob.c_str(), text.c_str()));
}

TEST(PageVector, KeepsWhatItHoldsWhileItGrows) {
  PageVector<std::uint64_t> numbers;
  for (std::uint64_t k = 0; k < 300000; ++k) ASSERT_TRUE(numbers.push_back(k * k));

  ASSERT_EQ(numbers.size(), 300000U);
  for (std::uint64_t k = 0; k < numbers.size(); ++k) ASSERT_EQ(numbers[k], k * k);
  EXPECT_EQ(numbers.back(), numbers[299999]);
}

TEST(PageVector, IsEmptyAtFirstAndAfterClear) {
  PageVector<int> numbers;
  EXPECT_TRUE(numbers.empty());
  EXPECT_EQ(numbers.capacity(), 0U);
  EXPECT_EQ(numbers.begin(), numbers.end());
  ASSERT_TRUE(numbers.push_back(1));
  numbers.clear();
  EXPECT_TRUE(numbers.empty());
  EXPECT_GT(numbers.capacity(), 0U);
}

TEST(PageVector, AssignReplacesEverything) {
  std::vector<int> many(5000), few = {7, 8};
  std::iota(many.begin(), many.end(), 0);
  PageVector<int> numbers;

  ASSERT_TRUE(numbers.assign(many));
  EXPECT_TRUE(std::equal(numbers.begin(), numbers.end(), many.begin(), many.end()));
  ASSERT_TRUE(numbers.assign(few));
  EXPECT_TRUE(std::equal(numbers.begin(), numbers.end(), few.begin(), few.end()));
  ASSERT_TRUE(numbers.assign({}));
  EXPECT_TRUE(numbers.empty());
  ASSERT_TRUE(numbers.assign_zero(3));
  EXPECT_EQ(numbers[0] + numbers[1] + numbers[2], 0);
}

TEST(PageVector, MovingTakesTheItemsAlong) {
  PageVector<int> one, other;
  ASSERT_TRUE(one.push_back(1) && other.push_back(2) && other.push_back(3));

  PageVector<int> moved(std::move(one));
  EXPECT_EQ(moved.size(), 1U);
  EXPECT_EQ(one.size(), 0U);  // NOLINT: that is what is tested
  ASSERT_TRUE(one.push_back(4));
  moved = std::move(other);
  EXPECT_EQ(moved.size(), 2U);
  EXPECT_EQ(moved[1], 3);
}

TEST(PageVector, WhatNoMemoryCanHoldIsRefusedAndNothingIsLost) {
  struct Wide {
    std::uint64_t words[4];
  };
  PageVector<Wide> items;
  ASSERT_TRUE(items.push_back({{5}}));
  for (const std::size_t count : {std::size_t{1} << 60, SIZE_MAX / sizeof(Wide), SIZE_MAX / sizeof(Wide) + 2, SIZE_MAX})
    EXPECT_FALSE(items.reserve(count)) << count;

  EXPECT_EQ(items.size(), 1U);
  EXPECT_EQ(items[0].words[0], 5U);
}

/// The hash of the text when it lies at `shift` bytes from an aligned address with much behind it, all of which may be read.
std::uint32_t hash_amid_others(const std::string &text, std::size_t shift) {
  alignas(64) char memory[256];
  std::memset(memory, 'x', sizeof memory);
  std::memcpy(memory + shift, text.c_str(), text.size() + 1);
  return name_hash(memory + shift, memory + sizeof memory);
}

TEST(NameHash, DependsOnTheNameAndNotOnWhereItLies) {
  for (std::size_t size = 0; size <= 100; ++size) {
    std::string text(size, '\0');
    for (std::size_t k = 0; k < size; ++k) text[k] = static_cast<char>(k * 7 + 128);  // also bytes above 127
    for (char &c : text) c = c == '\0' ? 'z' : c;
    const std::uint32_t expected = name_hash(text.c_str(), text.c_str() + size + 1);  // not one byte more may be read

    for (std::size_t shift = 0; shift < 64; ++shift) ASSERT_EQ(hash_amid_others(text, shift), expected) << size;
  }
}

TEST(NameHash, ReadsNothingBehindTheEndOfMemory) {
  for (std::size_t size = 0; size <= 100; ++size)
    for (std::size_t behind = 0; behind < 40; ++behind) {
      const std::string text(size, 'q');
      const Guarded memory(size + 1 + behind);
      std::memset(memory.begin(), 'x', memory.size());
      std::memcpy(memory.begin(), text.c_str(), size + 1);

      const std::uint32_t hash =
          name_hash(reinterpret_cast<const char *>(memory.begin()), reinterpret_cast<const char *>(memory.end()));

      ASSERT_EQ(hash, hash_amid_others(text, 0)) << size << " " << behind;
    }
}

TEST(NameHash, NamesThatAreAlikeDiffer) {
  std::set<std::uint32_t> hashes;
  std::size_t names = 0;
  for (const char *prefix : {"", "a_long_common_prefix_of_more_than_thirty_two_bytes_"})
    for (int k = 0; k < 20000; ++k, ++names) hashes.insert(hash_amid_others(prefix + std::to_string(k), 0));

  EXPECT_GE(hashes.size(), names - 3);  // 40,000 of 2^32: chance gives one pair in five runs
}

TEST(Problem, TheFirstOneIsKept) {
  Problem problem;
  EXPECT_FALSE(problem);
  problem.set(Code::busy, "first %d", 1);
  problem.set(Code::system, "second");

  EXPECT_TRUE(problem);
  EXPECT_EQ(problem.code, Code::busy);
  EXPECT_STREQ(problem.message, "first 1");
}

TEST(Problem, BecomesAnErrorWithAllFacts) {
  Problem problem;
  problem.object = "libx.so";
  problem.symbol = "read";
  problem.address = 0x1234;
  problem.sys_errno = EACCES;
  problem.set(Code::protection_refused, "cannot write");

  const Error error = problem.to_error();

  EXPECT_EQ(error.code, Code::protection_refused);
  EXPECT_EQ(error.message, "cannot write: Permission denied (EACCES)");
  EXPECT_EQ(error.object, "libx.so");
  EXPECT_EQ(error.symbol, "read");
  EXPECT_EQ(error.address, 0x1234U);
  EXPECT_EQ(error.sys_errno, EACCES);
}

TEST(Problem, ALongTextIsCutOff) {
  Problem problem;
  problem.set(Code::system, "%s", std::string(5000, 'x').c_str());

  EXPECT_EQ(std::strlen(problem.message), sizeof problem.message - 1);
  EXPECT_EQ(make_error(Code::system, "%s", std::string(5000, 'x').c_str()).message.size(), 2047U);
}

TEST(Error, EveryCodeHasAName) {
  EXPECT_STREQ(code_name(Code::ok), "ok");
  EXPECT_STREQ(code_text(Code::ok), "done");
  EXPECT_STREQ(code_name(Code::slot_changed), "slot_changed");
  EXPECT_STREQ(code_name(static_cast<Code>(9999)), "unknown_code");
  std::set<std::string> names, texts;
  int codes = 0;
#define SHUNT_ERROR(name, number, summary) \
  names.insert(code_name(Code::name));     \
  texts.insert(code_text(Code::name));     \
  EXPECT_EQ(static_cast<int>(Code::name), ++codes);
#include <shunt/errors.def>
#undef SHUNT_ERROR
  EXPECT_EQ(names.size(), static_cast<std::size_t>(codes));
  EXPECT_EQ(texts.size(), static_cast<std::size_t>(codes));
}

TEST(Error, AnUnknownErrnoHasATextToo) {
  EXPECT_EQ(errno_text(ENOENT), "No such file or directory (ENOENT)");
  EXPECT_EQ(errno_text(123456), "unknown error (?)");
}

TEST(Result, IsAValueOrAnError) {
  const Result<int> value = 5, failed = make_error(Code::busy, "why");

  ASSERT_TRUE(value);
  EXPECT_EQ(*value, 5);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().message, "why");
}

// ---- sha256: the examples of FIPS 180-4 (as NIST gives them), and every size around a block

TEST(Sha256, IsThatOfTheStandard) {
  const auto hash = [](std::string_view text) {
    Sha256 sha;
    sha.add(text.data(), text.size());
    return sha.hex();
  };
  EXPECT_EQ(hash(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(hash(std::string(1'000'000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, DoesNotMindHowTheBytesCome) {
  const std::string text(300, 'x');
  for (std::size_t size = 0; size < text.size(); ++size) {
    Sha256 whole, parts;
    whole.add(text.data(), size);
    for (std::size_t at = 0; at < size; at += 7) parts.add(text.data() + at, std::min<std::size_t>(7, size - at));
    EXPECT_EQ(whole.hex(), parts.hex()) << size;
  }
}

// ---- guarded descriptors. is_ours() answers true: the second fails.

TEST(GuardedFd, IsKeptHighAndCloseOnExec) {
  GuardedFd kept = GuardedFd::keep(open("/dev/null", O_RDONLY));
  EXPECT_TRUE(kept.is_ours());
  EXPECT_GT(kept.fd, 100);
  EXPECT_EQ(fcntl(kept.fd, F_GETFD), FD_CLOEXEC);
  const int fd = kept.fd;
  kept.close();
  EXPECT_FALSE(kept.is_open());
  EXPECT_EQ(fcntl(fd, F_GETFD), -1);
}

TEST(GuardedFd, IsLeftAloneWhenItsNumberIsSomebodyElses) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  GuardedFd kept = GuardedFd::keep(ends[0]);
  const int number = kept.fd;
  ASSERT_EQ(close(number), 0);
  EXPECT_FALSE(kept.is_ours());
  const Fd other(open("/dev/null", O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(dup2(other.get(), number), number);
  EXPECT_FALSE(kept.is_ours());
  kept.close();
  EXPECT_NE(fcntl(number, F_GETFD), -1) << "somebody else's descriptor was closed";
  close(number);
  close(ends[1]);
}

}  // namespace
