// lib/memory: what protects a page, and opening pages for a store.
//
// Shown to fail (each guard of lib/memory taken out, the test seen to fail, the guard put back):
//   ParseMaps…      parse_maps() without its checks of the dash, the length, the order
//   Protections…    at() without `address < found->begin`; upper_bound() by `m.begin`
//   WriteWindows…   open_span() with the whole mapping; without the refusal of PROT_EXEC; close() that restores PROT_READ;
//                   open() that takes `high` for the last word of the first mapping
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "memory/protections.hpp"
#include "memory/write_window.hpp"

namespace {

using namespace shunt::core;

const std::size_t kPage = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));

// ---- parse_maps

/// "begin-end protection" of each mapping that is seen in the text.
std::string seen_in(const std::string &text) {
  const std::vector<char> exact(text.begin(), text.end());  // no NUL behind it
  PageVector<Mapping> mappings;
  EXPECT_TRUE(parse_maps(exact.data(), exact.size(), mappings));
  std::ostringstream seen;
  for (const Mapping &one : mappings) seen << std::hex << one.begin << "-" << one.end << " " << one.protection << "\n";
  return seen.str();
}

TEST(ParseMaps, ReadsWhatTheKernelWrites) {
  EXPECT_EQ(seen_in("5581a000-5581b000 r--p 00000000 08:01 131 /usr/bin/with space\n"
                    "7f0000000000-7f0000002000 rw-s 00000000 00:00 0\n"
                    "7ffffffde000-7ffffffff000 ---p 00000000 00:00 0 [stack]\n"
                    "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n"),
            "5581a000-5581b000 1\n7f0000000000-7f0000002000 3\n7ffffffde000-7ffffffff000 0\n"
            "ffffffffff600000-ffffffffff601000 4\n");
}

TEST(ParseMaps, PassesOverWhatIsNoMapping) {
  for (const char *text : {"", "\n", "\n\n\n", "-", "1000", "1000-", "1000-2000", "1000-2000 ", "1000-2000 rw-",
                           "zzz-2000 rw-p\n", "1000 2000 rw-p\n", "1000-2000\trw-p\n", "2000-1000 rw-p\n",
                           "1000-1000 rw-p\n", "-1000 rw-p", "1000--2000 rw-p", " 1000-2000 rw-p", "1000-g000 rw-p"})
    EXPECT_EQ(seen_in(text), "") << '"' << text << '"';
  EXPECT_EQ(seen_in("junk\n\n1000-2000 rwxp 0\nmore junk"), "1000-2000 7\n");
  EXPECT_EQ(seen_in(std::string("\0\0\n1000-2000 r--p\n\0", 19)), "1000-2000 1\n");
}

TEST(ParseMaps, TheLastLineNeedsNoEnd) { EXPECT_EQ(seen_in("1000-2000 r-xp"), "1000-2000 5\n"); }

TEST(ParseMaps, ALineMayBeAsLongAsItLikes) {
  const std::string name(1 << 20, 'n');
  EXPECT_EQ(seen_in("1000-2000 r--p 0 0 0 /" + name + "\n2000-3000 rw-p\n"), "1000-2000 1\n2000-3000 3\n");
  EXPECT_EQ(seen_in(std::string(1 << 20, 'a')), "");
}

TEST(ParseMaps, EveryTruncationIsRead) {
  const std::string text = "1000-2000 r--p 00000000 08:01 131 /usr/bin/x\n3000-4000 rw-p 00000000 00:00 0\n";
  for (std::size_t size = 0; size <= text.size(); ++size) {
    const std::string seen = seen_in(text.substr(0, size));
    EXPECT_TRUE(seen.empty() || seen == "1000-2000 1\n" || seen == "1000-2000 1\n3000-4000 3\n")
        << size << ": " << seen;
  }
}

// ---- Protections

class ProtectionsTest : public testing::TestWithParam<Protections::Ask> {};
INSTANTIATE_TEST_SUITE_P(Memory, ProtectionsTest,
                         testing::Values(Protections::Ask::kernel, Protections::Ask::whole_map), [](const auto &of) {
                           return std::string(of.param == Protections::Ask::kernel ? "AskKernel" : "ReadWholeMap");
                         });

/// Pages of our own with the given protections, one each, and one behind them that is not mapped.
class Pages {
 public:
  explicit Pages(const std::vector<int> &protections) : count_(protections.size()) {
    begin_ = reinterpret_cast<std::uintptr_t>(
        mmap(nullptr, (count_ + 1) * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    for (std::size_t k = 0; k < count_; ++k) EXPECT_EQ(mprotect(page(k), kPage, protections[k]), 0);
    munmap(page(count_), kPage);
  }
  Pages(const Pages &) = delete;
  Pages &operator=(const Pages &) = delete;
  ~Pages() { munmap(page(0), count_ * kPage); }

  [[nodiscard]] void *page(std::size_t k) const { return reinterpret_cast<void *>(begin_ + k * kPage); }
  [[nodiscard]] std::uintptr_t word(std::size_t k, std::size_t offset = 0) const { return begin_ + k * kPage + offset; }
  /// The protections as the kernel says them now.
  [[nodiscard]] std::vector<int> now() const {
    Protections protections;
    std::vector<int> all;
    for (std::size_t k = 0; k < count_; ++k) {
      Mapping mapping;
      all.push_back(protections.at(word(k), mapping) == 0 ? mapping.protection : -1);
    }
    return all;
  }

 private:
  std::uintptr_t begin_ = 0;
  std::size_t count_;
};

constexpr int kNone = PROT_NONE, kRead = PROT_READ, kWrite = PROT_READ | PROT_WRITE, kCode = PROT_READ | PROT_EXEC;

TEST_P(ProtectionsTest, AgreesWithTheTextOfTheMap) {
  const Pages own({kNone, kRead, kWrite, kCode});
  Protections protections(GetParam());
  Mapping mapping;
  ASSERT_EQ(protections.at(own.word(0), mapping), 0);
  std::ifstream maps("/proc/self/maps");
  const std::string text(std::istreambuf_iterator<char>(maps), {});
  std::istringstream lines(text);
  unsigned compared = 0;

  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::uintptr_t begin = 0, end = 0;
    char dash = 0;
    std::string flags;
    fields >> std::hex >> begin >> dash >> end >> flags;
    // What has no name is memory that this test and the class itself take while they look.
    if (line.find('/') == std::string::npos && line.find("[vdso]") == std::string::npos) continue;
    const int expected =
        (flags[0] == 'r' ? PROT_READ : 0) | (flags[1] == 'w' ? PROT_WRITE : 0) | (flags[2] == 'x' ? PROT_EXEC : 0);
    for (const std::uintptr_t address : {begin, begin + (end - begin) / 2, end - 1}) {
      EXPECT_EQ(protections.at(address, mapping), 0) << line;
      EXPECT_EQ(mapping.protection, expected) << line;
      EXPECT_LE(mapping.begin, address) << line;
      EXPECT_GT(mapping.end, address) << line;
    }
    ++compared;
  }
  EXPECT_GT(compared, 10U);
}

TEST_P(ProtectionsTest, TellsNeighboursApart) {
  const std::vector<int> expected = {kNone, kRead, kWrite, kCode, kRead};
  const Pages own(expected);
  Protections protections(GetParam());

  for (std::size_t k = 0; k < expected.size(); ++k) {
    Mapping mapping;
    ASSERT_EQ(protections.at(own.word(k, kPage - 1), mapping), 0);
    EXPECT_EQ(mapping.protection, expected[k]) << k;
  }
}

TEST_P(ProtectionsTest, WhatIsNotMappedIsSaidToBe) {
  const Pages own({kWrite});
  Protections protections(GetParam());
  Mapping mapping;

  EXPECT_EQ(protections.at(own.word(1), mapping), -ENOMEM);
  EXPECT_EQ(protections.at(0, mapping), -ENOMEM);
  EXPECT_EQ(protections.at(UINTPTR_MAX, mapping), -ENOMEM);
}

// ---- WriteWindows

/// Opens the pages of the words, and nothing is wrong with that.
void open(WriteWindows &windows, std::vector<std::uintptr_t> words) {
  Problem problem;
  const auto [low, high] = std::minmax_element(words.begin(), words.end());
  EXPECT_TRUE(windows.open(
      *low, *high, words.size(), [&](std::size_t k) { return words[k]; }, "libx.so", problem));
  EXPECT_FALSE(problem) << problem.message;
}

TEST(WriteWindows, OpenASmallMappingAsAWholeAndRestoreIt) {
  const Pages own({kWrite, kRead, kRead, kRead, kWrite});
  WriteWindows windows;

  open(windows, {own.word(2)});
  EXPECT_EQ(own.now(), (std::vector<int>{kWrite, PROT_WRITE, PROT_WRITE, PROT_WRITE, kWrite}));
  EXPECT_EQ(windows.opened(), 1U);
  EXPECT_EQ(load_word(own.word(2)), 0U);  // it can be read meanwhile
  EXPECT_TRUE(windows.close());
  EXPECT_EQ(own.now(), (std::vector<int>{kWrite, kRead, kRead, kRead, kWrite}));
}

TEST(WriteWindows, OpenOfALargeMappingTheNeededPagesOnly) {
  const std::vector<int> before(20, kRead);
  const Pages own(before);
  WriteWindows windows;

  open(windows, {own.word(12, kPage - 8), own.word(11)});  // the last word of one page, the first of another
  std::vector<int> meanwhile = before;
  meanwhile[11] = meanwhile[12] = kWrite;
  EXPECT_EQ(own.now(), meanwhile);
  EXPECT_EQ(windows.opened(), 1U);
  EXPECT_TRUE(windows.close());
  EXPECT_EQ(own.now(), before);
}

TEST(WriteWindows, LeaveWritablePagesAlone) {
  const Pages own({kWrite, kRead});
  WriteWindows windows;

  open(windows, {own.word(0)});

  EXPECT_EQ(windows.opened(), 0U);
  EXPECT_EQ(own.now(), (std::vector<int>{kWrite, kRead}));
}

TEST(WriteWindows, RestoreEveryProtectionOfSeveralMappings) {
  const std::vector<int> before = {kRead, kWrite, kNone, kRead, kRead, kWrite, kRead};
  const Pages own(before);
  {
    WriteWindows windows;
    open(windows, {own.word(4), own.word(0), own.word(2, 8), own.word(1), own.word(5)});
    EXPECT_EQ(own.now(), (std::vector<int>{PROT_WRITE, kWrite, PROT_WRITE, PROT_WRITE, PROT_WRITE, kWrite, kRead}));
    for (const std::size_t k : {0U, 1U, 2U, 4U, 5U}) *reinterpret_cast<std::uintptr_t *>(own.word(k)) = 1;
  }  // the destructor closes
  EXPECT_EQ(own.now(), before);
}

TEST(WriteWindows, MayBeOpenedTwiceOverTheSamePage) {
  const Pages own({kRead, kRead});
  WriteWindows windows;

  open(windows, {own.word(0, 8)});
  open(windows, {own.word(0, 16), own.word(1)});
  EXPECT_EQ(own.now(), (std::vector<int>{PROT_WRITE, PROT_WRITE}));
  EXPECT_TRUE(windows.close());
  EXPECT_EQ(own.now(), (std::vector<int>{kRead, kRead}));
}

TEST(WriteWindows, RefuseAnExecutablePageAndRestoreTheOthers) {
  const Pages own({kRead, kCode});
  Problem problem;
  {
    WriteWindows windows;
    const std::uintptr_t words[] = {own.word(0), own.word(1)};

    EXPECT_FALSE(windows.open(
        words[0], words[1], 2, [&](std::size_t k) { return words[k]; }, "libx.so", problem));

    EXPECT_EQ(own.now()[1], kCode);  // never writable and executable
  }
  EXPECT_EQ(own.now(), (std::vector<int>{kRead, kCode}));
  EXPECT_EQ(problem.code, Code::protection_refused);
  EXPECT_EQ(problem.sys_errno, EACCES);
  EXPECT_EQ(problem.address, own.word(1));
  EXPECT_STREQ(problem.object, "libx.so");
  EXPECT_NE(std::string(problem.message).find("executable"), std::string::npos) << problem.message;
}

TEST(WriteWindows, RefuseWhatIsNotMapped) {
  const Pages own({kRead});
  WriteWindows windows;
  Problem problem;
  const std::uintptr_t word = own.word(1);

  EXPECT_FALSE(windows.open(
      word, word, 1, [&](std::size_t) { return word; }, "libx.so", problem));

  EXPECT_EQ(problem.code, Code::protection_refused);
  EXPECT_EQ(problem.sys_errno, ENOMEM);
  EXPECT_EQ(problem.address, word);
}

TEST(CompareAndStore, StoresOnlyOverWhatIsExpected) {
  std::uintptr_t word = 1, found = 0;

  EXPECT_FALSE(compare_and_store(reinterpret_cast<std::uintptr_t>(&word), 2, 3, found));
  EXPECT_EQ(found, 1U);
  EXPECT_EQ(word, 1U);
  EXPECT_TRUE(compare_and_store(reinterpret_cast<std::uintptr_t>(&word), 1, 3, found));
  EXPECT_EQ(load_word(reinterpret_cast<std::uintptr_t>(&word)), 3U);
}

TEST(WriteThroughKernel, ReachesAPageThatCannotBeWritten) {
  const Pages own({kRead});

  EXPECT_TRUE(write_through_kernel(own.word(0, 8), 42));
  EXPECT_EQ(load_word(own.word(0, 8)), 42U);
  EXPECT_EQ(own.now(), (std::vector<int>{kRead}));
  EXPECT_FALSE(write_through_kernel(own.word(1), 42));
}

}  // namespace
