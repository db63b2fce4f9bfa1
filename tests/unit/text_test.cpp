// lib/memory: changing code, and memory for code near it. The code is that of x86-64 where it is run; elsewhere its bytes are
// looked at only.
//
// Shown to fail (each guard taken out, the test seen to fail, the guard put back):
//   TextFlip…    flip() without check_pages(); copy() without the comparison; replace_all() without its way back; return_to_files()
//                without the comparison of the inode, and of the bytes
//   NearMemory…  take() without `high`; free() that never unmaps
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "memory/near_memory.hpp"
#include "memory/text_flip.hpp"

namespace {

using namespace shunt::core;

const std::size_t kPage = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
constexpr std::uint8_t kTrap = 0xcc;
constexpr std::uint8_t kTraps[] = {kTrap};

/// mov eax, value; ret
std::vector<std::uint8_t> returns(std::uint32_t value) {
  std::vector<std::uint8_t> code = {0xb8, 0, 0, 0, 0, 0xc3};
  std::memcpy(code.data() + 1, &value, sizeof value);
  return code;
}

std::uint32_t call(std::uintptr_t address) { return reinterpret_cast<std::uint32_t (*)()>(address)(); }

TextChange change(std::uintptr_t address, const std::vector<std::uint8_t> &expected,
                  const std::vector<std::uint8_t> &bytes) {
  return {address, bytes.size(), expected.data(), bytes.data(), "libtest.so", "function"};
}

bool holds(std::uintptr_t address, const std::vector<std::uint8_t> &bytes) {
  return std::memcmp(reinterpret_cast<const void *>(address), bytes.data(), bytes.size()) == 0;
}

/// What /proc/self/maps says of an address.
struct Seen {
  MapLine line = {};
  std::string name = {};
};
Seen seen_at(std::uintptr_t address) {
  PageVector<char> text;
  EXPECT_EQ(read_map_text(text), 0);
  std::string_view rest(text.data(), text.size());
  for (MapLine line; next_map_line(rest, line);)
    if (address >= line.begin && address < line.end) return {line, std::string(line.name)};
  return {};
}

/// A file of pages of code, mapped as the dynamic linker maps an object's code: at kAt in each page a function that returns the
/// page's number.
class CodeFile {
 public:
  static constexpr std::size_t kAt = 0x100;

  explicit CodeFile(std::size_t pages, int protection = PROT_READ | PROT_EXEC, int flags = MAP_PRIVATE)
      : size_(pages * kPage) {
    std::vector<char> bytes(size_, static_cast<char>(kTrap));
    for (std::size_t k = 0; k < pages; ++k)
      std::memcpy(bytes.data() + k * kPage + kAt, returns(static_cast<std::uint32_t>(k)).data(), 6);
    fd_ = mkstemp(name_);
    EXPECT_EQ(write(fd_, bytes.data(), size_), static_cast<long>(size_));
    address_ = mmap(nullptr, size_, protection, flags, fd_, 0);
    EXPECT_NE(address_, MAP_FAILED);
    if (address_ != MAP_FAILED) last_page_ = mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, fd_, 0);
  }
  ~CodeFile() {
    munmap(address_, size_);
    munmap(last_page_, kPage);
    close(fd_);
    unlink(name_);
  }
  [[nodiscard]] std::uintptr_t function(std::size_t page) const {
    return reinterpret_cast<std::uintptr_t>(address_) + page * kPage + kAt;
  }
  [[nodiscard]] const char *name() const { return name_; }
  [[nodiscard]] int fd() const { return fd_; }

 private:
  char name_[32] = "/tmp/shunt-text-XXXXXX";
  const std::size_t size_;
  int fd_ = -1;
  void *address_ = nullptr;
  void *last_page_ = nullptr;  // another mapping of the file: an object has more than its code
};

/// Runs `body` in a child process, which answers 0 when all is well, or a number that says where it was not.
int in_child(const std::function<int()> &body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

constexpr int kCannot = 77;  // a child's answer: this machine has no such thing

/// From here on this process's call of `number` fails with EPERM.
bool forbid(long number) {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(number), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program = {4, filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// ---- TextFlip

TEST(TextFlip, ChangesCodeAndGivesThePageBackToItsFile) {
  const CodeFile file(3);
  const Seen before = seen_at(file.function(1));
  TextFlip flip;
  Problem problem;

  ASSERT_TRUE(flip.flip(std::vector{change(file.function(1), returns(1), returns(0x4711))}, problem))
      << problem.message;

  EXPECT_TRUE(holds(file.function(1), returns(0x4711)));
  const Seen during = seen_at(file.function(1));
  EXPECT_EQ(during.line.protection, PROT_READ | PROT_EXEC);
  EXPECT_FALSE(during.line.is_shared);
  EXPECT_NE(during.line.inode, before.line.inode);
  EXPECT_EQ(flip.pages_away(), 1U);
  EXPECT_EQ(seen_at(file.function(0)).line.inode, before.line.inode);
  EXPECT_EQ(seen_at(file.function(2)).line.inode, before.line.inode);

  ASSERT_TRUE(flip.flip(std::vector{change(file.function(1), returns(0x4711), returns(1))}, problem))
      << problem.message;

  EXPECT_TRUE(holds(file.function(1), returns(1)));
  const Seen after = seen_at(file.function(1));
  EXPECT_EQ(after.line.inode, before.line.inode);
  EXPECT_EQ(after.line.protection, before.line.protection);
  EXPECT_EQ(after.line.offset - after.line.begin, before.line.offset - before.line.begin);
  EXPECT_EQ(flip.pages_away(), 0U);
}

TEST(TextFlip, APageThatHoldsAnotherChangeStaysACopy) {
  const CodeFile file(1);
  const std::vector<std::uint8_t> traps(6, kTrap);
  TextFlip flip;
  Problem problem;
  ASSERT_TRUE(flip.flip(
      std::vector{change(file.function(0), returns(0), returns(5)), change(file.function(0) + 64, traps, returns(6))},
      problem));

  ASSERT_TRUE(flip.flip(std::vector{change(file.function(0), returns(5), returns(0))}, problem)) << problem.message;
  EXPECT_EQ(flip.pages_away(), 1U);
  EXPECT_TRUE(holds(file.function(0) + 64, returns(6)));

  ASSERT_TRUE(flip.flip(std::vector{change(file.function(0) + 64, returns(6), traps)}, problem)) << problem.message;
  EXPECT_EQ(flip.pages_away(), 0U);
}

TEST(TextFlip, AFileThatChangedIsNotMappedAgain) {
  const CodeFile file(1);
  const std::vector<std::uint8_t> other = {0x90};
  TextFlip flip;
  Problem problem;
  ASSERT_TRUE(flip.flip(std::vector{change(file.function(0), returns(0), returns(5))}, problem));
  ASSERT_EQ(pwrite(file.fd(), other.data(), 1, 0), 1);  // in place, elsewhere in the page

  ASSERT_TRUE(flip.flip(std::vector{change(file.function(0), returns(5), returns(0))}, problem));

  EXPECT_EQ(flip.pages_away(), 1U);
  EXPECT_TRUE(holds(file.function(0) / kPage * kPage, {kTrap})) << "what was mapped, not what the file holds now";
}

TEST(TextFlip, AFileOfTheSameNameIsNotTheFile) {
  const CodeFile file(1);
  TextFlip flip;
  Problem problem;
  ASSERT_TRUE(flip.flip(std::vector{change(file.function(0), returns(0), returns(5))}, problem));
  // The same bytes, and the very name that the kernel then gives the file that is gone.
  const std::string other = std::string(file.name()) + ".new", gone = std::string(file.name()) + " (deleted)";
  for (const std::string &name : {other, gone}) {
    std::ifstream in(file.name(), std::ios::binary);
    std::ofstream(name, std::ios::binary) << in.rdbuf();
  }
  ASSERT_EQ(rename(other.c_str(), file.name()), 0);

  ASSERT_TRUE(flip.flip(std::vector{change(file.function(0), returns(5), returns(0))}, problem));
  unlink(gone.c_str());

  EXPECT_EQ(flip.pages_away(), 1U);
  EXPECT_TRUE(holds(file.function(0), returns(0)));
}

TEST(TextFlip, APageThatWasChangedBeforeUsStaysACopy) {
  const CodeFile file(1);
  const auto page = file.function(0) / kPage * kPage;
  ASSERT_EQ(mprotect(reinterpret_cast<void *>(page), kPage, PROT_READ | PROT_WRITE), 0);
  *reinterpret_cast<std::uint8_t *>(page) = 0x90;
  ASSERT_EQ(mprotect(reinterpret_cast<void *>(page), kPage, PROT_READ | PROT_EXEC), 0);
  TextFlip flip;
  Problem problem;

  ASSERT_TRUE(flip.flip(std::vector{change(file.function(0), returns(0), returns(5))}, problem));
  ASSERT_TRUE(flip.flip(std::vector{change(file.function(0), returns(5), returns(0))}, problem));

  EXPECT_TRUE(holds(page, {0x90}));
  EXPECT_EQ(flip.pages_away(), 0U) << "there is no file to go back to";
}

TEST(TextFlip, WhatIsNotExpectedIsNotChanged) {
  const CodeFile file(4);
  TextFlip flip;
  Problem problem;

  EXPECT_FALSE(flip.flip(
      std::vector{change(file.function(0), returns(0), returns(5)), change(file.function(3), returns(7), returns(5))},
      problem));

  EXPECT_EQ(problem.code, Code::code_changed);
  EXPECT_EQ(problem.address, file.function(3));
  EXPECT_STREQ(problem.symbol, "function");
  EXPECT_TRUE(holds(file.function(0), returns(0)));
  EXPECT_TRUE(holds(file.function(3), returns(3)));
  EXPECT_EQ(flip.pages_away(), 0U);
}

TEST(TextFlip, AllOrNothing) {
  const CodeFile file(4);
  const auto last = file.function(3) / kPage * kPage;
#ifdef __NR_mseal
  const long mseal_number = __NR_mseal;
#else
  const long mseal_number = 462;
#endif
  const int answer = in_child([&] {
    if (syscall(mseal_number, last, kPage, 0) != 0) return kCannot;
    TextFlip flip;
    Problem problem;
    if (flip.flip(std::vector{change(file.function(0), returns(0), returns(5)),
                              change(file.function(3), returns(3), returns(5))},
                  problem))
      return 1;
    if (problem.code != Code::code_page_refused || problem.sys_errno != EPERM) return 2;
    if (!holds(file.function(0), returns(0)) || !holds(file.function(3), returns(3))) return 3;
    return flip.pages_away() == 0 && seen_at(file.function(0)).name == file.name() ? 0 : 4;
  });
  if (answer == kCannot)
    GTEST_SKIP() << "this kernel has no mseal (Linux 6.10), which makes the second of two flips fail";
  EXPECT_EQ(answer, 0);
}

TEST(TextFlip, RefusesPagesThatOthersWrite) {
  const auto refused = [](std::uintptr_t address) {
    TextFlip flip;
    Problem problem;
    EXPECT_FALSE(flip.flip(std::vector{change(address, returns(0), returns(5))}, problem));
    EXPECT_EQ(problem.code, Code::code_page_refused);
    EXPECT_TRUE(holds(address, returns(0)));
    return std::string(problem.message);
  };
  const CodeFile shared(1, PROT_READ | PROT_EXEC, MAP_SHARED), data(1, PROT_READ), writable(1, PROT_READ | PROT_WRITE);

  EXPECT_NE(refused(shared.function(0)).find("shared"), std::string::npos);
  EXPECT_NE(refused(data.function(0)).find("not code"), std::string::npos);
  EXPECT_NE(refused(writable.function(0)).find("writable"), std::string::npos);
}

TEST(TextFlip, RefusesWhatIsNotMappedAndWhatIsNotSorted) {
  const CodeFile file(2);
  TextFlip flip;
  Problem problem, unsorted, overlapping;
  const auto bytes = returns(5);

  EXPECT_FALSE(flip.flip(std::vector{change(kPage, bytes, bytes)}, problem));
  EXPECT_FALSE(flip.flip(
      std::vector{change(file.function(1), returns(1), bytes), change(file.function(0), returns(0), bytes)}, unsorted));
  EXPECT_FALSE(
      flip.flip(std::vector{change(file.function(0), returns(0), bytes), change(file.function(0) + 2, bytes, bytes)},
                overlapping));

  EXPECT_EQ(problem.code, Code::code_page_refused);
  EXPECT_EQ(unsorted.code, Code::invalid_argument);
  EXPECT_EQ(overlapping.code, Code::invalid_argument);
  EXPECT_TRUE(holds(file.function(0), returns(0)));
}

TEST(TextFlip, AnonymousCodeIsChangedToo) {
  void *const page = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const auto address = reinterpret_cast<std::uintptr_t>(page);
  std::memcpy(page, returns(1).data(), 6);
  ASSERT_EQ(mprotect(page, kPage, PROT_READ | PROT_EXEC), 0);
  TextFlip flip;
  Problem problem;

  EXPECT_TRUE(flip.flip(std::vector{change(address, returns(1), returns(2))}, problem)) << problem.message;

  EXPECT_TRUE(holds(address, returns(2)));
  EXPECT_EQ(flip.pages_away(), 0U);
  munmap(page, kPage);
}

/// Changes code, takes memory near it and fills that, and undoes it all. 0 when it works.
int works_here(const CodeFile &file) {
  TextFlip flip;
  NearMemory memory(kTraps);
  Problem problem;
  if (!flip.flip(std::vector{change(file.function(0), returns(0), returns(5))}, problem)) return 1;
  const std::uintptr_t near = memory.allocate(file.function(0), std::uint64_t{1} << 31, 6, problem);
  if (near == 0) return 2;
  if (!flip.flip(std::vector{change(near, std::vector<std::uint8_t>(6, kTrap), returns(9))}, problem)) return 3;
#if defined(__x86_64__)
  if (call(file.function(0)) != 5 || call(near) != 9) return 4;
#endif
  if (!flip.flip(std::vector{change(file.function(0), returns(5), returns(0))}, problem)) return 5;
  return flip.pages_away() == 0 ? 0 : 6;
}

TEST(TextFlip, WorksWhereNothingMayBecomeExecutable) {
  const CodeFile file(1);
  const int answer = in_child([&] {
    constexpr int kSetMdwe = 65, kRefuseExecGain = 1;  // PR_SET_MDWE
    if (prctl(kSetMdwe, kRefuseExecGain, 0, 0, 0) != 0) return kCannot;
    void *page = mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mprotect(page, kPage, PROT_READ | PROT_EXEC) == 0) return 100;  // it is in force
    return works_here(file);
  });
  if (answer == kCannot) GTEST_SKIP() << "this kernel has no PR_SET_MDWE (Linux 6.3)";
  EXPECT_EQ(answer, 0);
}

TEST(TextFlip, WorksWithoutMprotect) {
  const CodeFile file(1);
  EXPECT_EQ(in_child([&] { return forbid(SYS_mprotect) ? works_here(file) : 100; }), 0);
}

TEST(TextFlip, RefusesWithoutMemfd) {
  const CodeFile file(1);
  const int answer = in_child([&] {
    if (!forbid(SYS_memfd_create)) return 100;
    TextFlip flip;
    Problem problem;
    if (flip.flip(std::vector{change(file.function(0), returns(0), returns(5))}, problem)) return 1;
    if (problem.code != Code::code_page_refused || problem.sys_errno != EPERM) return 2;
    return holds(file.function(0), returns(0)) ? 0 : 3;
  });
  EXPECT_EQ(answer, 0);
}

TEST(TextFlip, RefusesWithoutProc) {
  const CodeFile file(1);
  const int answer = in_child([&] {
    if (chroot("/dev") != 0) return kCannot;
    TextFlip flip;
    NearMemory memory(kTraps);
    Problem problem, no_memory;
    if (flip.flip(std::vector{change(file.function(0), returns(0), returns(5))}, problem)) return 1;
    if (problem.code != Code::code_page_refused || problem.sys_errno != ENOENT) return 2;
    if (memory.allocate(file.function(0), std::uint64_t{1} << 31, 16, no_memory) != 0) return 3;
    return no_memory.code == Code::no_near_memory && holds(file.function(0), returns(0)) ? 0 : 4;
  });
  if (answer == kCannot) GTEST_SKIP() << "only root can hide /proc from a process of its own";
  EXPECT_EQ(answer, 0);
}

#if defined(__x86_64__)
/// Flips between two versions of a function while threads call it, and counts answers that are neither.
std::uint64_t wrong_answers(std::uintptr_t function, const std::vector<std::uint8_t> &old_code,
                            const std::vector<std::uint8_t> &new_code, std::uint32_t old_answer,
                            std::uint32_t new_answer, std::uint64_t &calls) {
  constexpr int kFlips = 2000, kThreads = 4;
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> wrong = 0, total = 0;
  std::vector<std::thread> threads;
  for (int k = 0; k < kThreads; ++k)
    threads.emplace_back([&] {
      std::uint64_t mine = 0, bad = 0;
      for (; !stop.load(std::memory_order_relaxed); ++mine) {
        const std::uint32_t answer = call(function);
        bad += answer != old_answer && answer != new_answer ? 1 : 0;
      }
      wrong += bad;
      total += mine;
    });
  TextFlip flip;
  Problem problem;
  for (int k = 0; k < kFlips && !problem; ++k) {
    flip.flip(std::vector{change(function, old_code, new_code)}, problem);
    flip.flip(std::vector{change(function, new_code, old_code)}, problem);
  }
  stop = true;
  for (std::thread &thread : threads) thread.join();
  EXPECT_FALSE(problem) << problem.message;
  EXPECT_EQ(flip.pages_away(), 0U);
  calls = total;
  return wrong;
}

TEST(TextFlipThreads, EveryCallIsTheOldOrTheNewOne) {
  const CodeFile file(1);
  std::uint64_t calls = 0;
  EXPECT_EQ(wrong_answers(file.function(0), returns(0), returns(0x4711), 0, 0x4711, calls), 0U) << calls;
}

TEST(TextFlipThreads, AnInstructionAcrossTwoPagesChangesAsOne) {
  const CodeFile file(2);
  const std::uintptr_t function =
      file.function(1) / kPage * kPage - 3;  // mov eax: two bytes of the number on each page
  const auto old_code = returns(0x11111111), new_code = returns(0x22222222);
  ASSERT_EQ(pwrite(file.fd(), old_code.data(), old_code.size(), static_cast<off_t>(kPage - 3)), 6);
  std::uint64_t calls = 0;
  EXPECT_EQ(wrong_answers(function, old_code, new_code, 0x11111111, 0x22222222, calls), 0U) << calls;
}
#endif

// ---- NearMemory

constexpr std::uint64_t kReach = std::uint64_t{1} << 31;

bool is_within(std::uintptr_t address, std::size_t size, std::uintptr_t near, std::uint64_t reach) {
  return address + reach >= near && address + size <= near + reach;
}

TEST(NearMemory, IsNearExecutableAndFullOfTraps) {
  const CodeFile file(1);
  NearMemory memory(kTraps);
  Problem problem;

  const std::uintptr_t address = memory.allocate(file.function(0), kReach, 100, problem);

  ASSERT_NE(address, 0U) << problem.message;
  EXPECT_EQ(address % 16, 0U);
  EXPECT_TRUE(is_within(address, 100, file.function(0), kReach));
  EXPECT_EQ(seen_at(address).line.protection, PROT_READ | PROT_EXEC);
  EXPECT_TRUE(holds(address, std::vector<std::uint8_t>(100, kTrap)));
  memory.free(address, 100);
  EXPECT_EQ(memory.blocks(), 0U);
  EXPECT_EQ(seen_at(address).line.inode, 0U);
}

TEST(NearMemory, PiecesDoNotOverlapAndComeBack) {
  const CodeFile file(1);
  NearMemory memory(kTraps);
  Problem problem;
  std::vector<std::pair<std::uintptr_t, std::size_t>> pieces;
  for (std::size_t k = 0; k < 3000; ++k) {
    const std::size_t size = 1 + k * 7 % 120;
    const std::uintptr_t address = memory.allocate(file.function(0), kReach, size, problem);
    ASSERT_NE(address, 0U) << problem.message;
    pieces.emplace_back(address, size);
  }
  const std::size_t blocks = memory.blocks();
  std::sort(pieces.begin(), pieces.end());
  for (std::size_t k = 1; k < pieces.size(); ++k)
    ASSERT_LE(pieces[k - 1].first + pieces[k - 1].second, pieces[k].first);

  for (std::size_t k = 0; k < pieces.size(); k += 2) memory.free(pieces[k].first, pieces[k].second);
  for (std::size_t k = 0; k < pieces.size(); k += 2)
    pieces[k].first = memory.allocate(file.function(0), kReach, pieces[k].second, problem);
  EXPECT_LE(memory.blocks(), blocks + 1);

  for (const auto &[address, size] : pieces) memory.free(address, size);
  EXPECT_EQ(memory.blocks(), 0U);
}

TEST(NearMemory, AnotherPlaceGetsAnotherBlock) {
  NearMemory memory(kTraps);
  Problem problem;
  constexpr std::uint64_t kShort = std::uint64_t{128} << 20;
  for (const std::uintptr_t place : {std::uintptr_t{0x2000} << 32, std::uintptr_t{0x3000} << 32,
                                     std::uintptr_t{0x1800} << 32})  // outside of ASan's shadow
    EXPECT_TRUE(is_within(memory.allocate(place, kShort, 16, problem), 16, place, kShort)) << std::hex << place;
  EXPECT_EQ(memory.blocks(), 3U);
}

TEST(NearMemory, RefusesWhatItCannotGive) {
  NearMemory memory(kTraps);
  Problem none, much;
  EXPECT_EQ(memory.allocate(std::uintptr_t{1} << 40, kReach, 0, none), 0U);
  EXPECT_EQ(memory.allocate(std::uintptr_t{1} << 40, kReach, (std::size_t{64} << 10) + 1, much), 0U);
  EXPECT_EQ(none.code, Code::invalid_argument);
  EXPECT_EQ(much.code, Code::invalid_argument);
}

/// Maps everything that is free within `reach` of `near`, so that nothing can be read, written or run there.
bool fill_surroundings(std::uintptr_t near, std::uint64_t reach) {
  const std::uintptr_t low = near > reach ? near - reach : kPage * 16, high = near + reach;
  PageVector<char> text;
  if (read_map_text(text) != 0) return false;
  std::string_view rest(text.data(), text.size());
  std::uintptr_t end = low / kPage * kPage;
  const auto fill = [](std::uintptr_t from, std::uintptr_t to) {
    return from >= to || mmap(reinterpret_cast<void *>(from), to - from, PROT_NONE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) != MAP_FAILED;
  };
  for (MapLine line; next_map_line(rest, line);) {
    if (!fill(end, std::min(line.begin, high / kPage * kPage))) return false;
    end = std::max(end, line.end);
  }
  return fill(end, high / kPage * kPage);
}

// e29.
TEST(NearMemory, RefusesWhereNothingIsFreeAndFindsTheOnlyHole) {
  const CodeFile file(1);
  const std::uintptr_t near = std::uintptr_t{0x300} << 32;  // far from what the process goes on to need
  constexpr std::size_t kHole = std::size_t{64} << 10;
  const int answer = in_child([&] {
    if (!fill_surroundings(near, kReach)) return 100;
    NearMemory memory(kTraps);
    Problem problem;
    if (memory.allocate(near, kReach, 16, problem) != 0) return 1;
    if (problem.code != Code::no_near_memory || problem.address != near) return 2;
    const std::uintptr_t hole = near + (std::uintptr_t{1} << 30);
    munmap(reinterpret_cast<void *>(hole - kPage), kHole);  // as large, but not where a block can lie
    if (memory.allocate(near, kReach, 16, problem) != 0) return 3;
    munmap(reinterpret_cast<void *>(hole), kHole);
    return memory.allocate(near, kReach, 16, problem) == hole ? 0 : 4;
  });
  EXPECT_EQ(answer, 0);
}

}  // namespace
