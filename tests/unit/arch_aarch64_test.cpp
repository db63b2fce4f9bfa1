// lib/arch/aarch64: which instruction becomes a jump, and where it goes. On every host. Where binutils for aarch64 are installed
// they read the results too, and where qemu-user is as well, trampolines are run.
//
// Shown to fail (each guard taken out, the test seen to fail, the guard put back): the opposite condition; the scratch register where
// the target register is SIMD's; put_over() to + 4; plan() that keeps paciasp first
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "arch/aarch64/code.hpp"
#include "arch/jump_targets.hpp"

namespace {

using namespace shunt::core::arch;
using Words = std::vector<std::uint32_t>;

constexpr std::uint64_t kEntry = 0x5000'0000, kTrampoline = kEntry + 0x100000;
constexpr std::uint32_t kNop = 0xd503201f, kRet = 0xd65f03c0, kBtiC = 0xd503245f, kPaciasp = 0xd503233f;

struct Code {
  std::vector<std::uint8_t> bytes;
  Function function;
  explicit Code(const Words &words, std::uint64_t address = kEntry) : bytes(words.size() * 4) {
    for (std::size_t k = 0; k < words.size(); ++k) aarch64::put_word(bytes.data() + k * 4, words[k]);
    function.body = {address, bytes.data(), bytes.size()};
  }
  Code(const Code &) = delete;
  Code &operator=(const Code &) = delete;
};

EntryPlan plan_of(const Words &words) { return Aarch64Code::plan(Code(words).function); }

Words moved(const Words &words, std::uint64_t entry = kEntry, std::uint64_t trampoline = kTrampoline,
            std::vector<Boundary> *boundaries = nullptr) {
  const Code code(words, entry);
  const EntryPlan plan = Aarch64Code::plan(code.function);
  EXPECT_EQ(plan.form, JumpForm::whole) << refusal_text(plan.refusal);
  std::vector<std::uint8_t> out(plan.trampoline_bytes);
  std::vector<Boundary> map(plan.instructions + 1);
  std::uint32_t size = 0;
  if (Aarch64Code::relocate(plan, code.function.body, trampoline, out, map, size) != Relocated::done) return {};
  if (boundaries != nullptr) *boundaries = map;
  Words result;
  for (std::uint32_t at = 0; at < size; at += 4) result.push_back(aarch64::word_at(out.data() + at));
  return result;
}

// The way back from 0x5010'0000 + 4 k to 0x5000'0004: -0x40000 + 1 - k words.
std::uint32_t back(std::uint32_t k) { return 0x14000000 | ((0x4000000 - 0x40000 + 1 - k) & 0x3ffffff); }

TEST(Aarch64Plan, OneInstructionBecomesAJump) {
  const EntryPlan plan = plan_of({0xa9bf7bfd, kRet});  // stp x29, x30, [sp, #-16]!
  EXPECT_EQ(plan.form, JumpForm::whole);
  EXPECT_EQ(plan.site, 0U);
  EXPECT_EQ(plan.changed, 4U);
  EXPECT_EQ(plan.displaced, 4U);
  EXPECT_FALSE(plan.has_inner_boundary);

  const EntryBytes bytes = Aarch64Code::entry_bytes(plan, kEntry, kEntry - 0x400);
  EXPECT_EQ(bytes.padding.size, 0U);
  EXPECT_EQ(bytes.entry.size, 4U);
  EXPECT_EQ(aarch64::word_at(bytes.entry.bytes), 0x17ffff00U);
}

TEST(Aarch64Plan, BtiStaysFirst) {
  for (const std::uint32_t bti : {kBtiC, 0xd503241fU, 0xd503249fU, 0xd50324dfU}) {
    const EntryPlan plan = plan_of({bti, 0xa9bf7bfd, kRet});
    EXPECT_EQ(plan.site, 4U);
    EXPECT_EQ(plan.displaced, 8U);
    EXPECT_EQ(Aarch64Code::entry_bytes(plan, kEntry, kEntry + 0x404).entry.address, kEntry + 4);
    EXPECT_EQ(aarch64::word_at(Aarch64Code::entry_bytes(plan, kEntry, kEntry + 0x404).entry.bytes), 0x14000100U);
  }
}

TEST(Aarch64Plan, BtiTakesThePlaceOfPaciasp) {
  for (const std::uint32_t sign : {kPaciasp, 0xd503237fU}) {
    const EntryPlan plan = plan_of({sign, 0xa9bf7bfd, kRet});
    EXPECT_EQ(plan.site, 0U);
    EXPECT_EQ(plan.changed, 8U);
    EXPECT_TRUE(plan.has_inner_boundary);
    const EntryBytes bytes = Aarch64Code::entry_bytes(plan, kEntry, kEntry + 0x404);
    EXPECT_EQ(bytes.entry.address, kEntry);
    EXPECT_EQ(aarch64::word_at(bytes.entry.bytes), kBtiC);
    EXPECT_EQ(aarch64::word_at(bytes.entry.bytes + 4), 0x14000100U);
  }
}

TEST(Aarch64Plan, WhatIsNotSafeIsRefused) {
  EXPECT_EQ(plan_of({}).refusal, Refusal::size_unknown);
  EXPECT_EQ(plan_of({kBtiC}).refusal, Refusal::too_short);
  EXPECT_EQ(plan_of({kPaciasp}).refusal, Refusal::too_short);
  EXPECT_EQ(plan_of({kNop, 0x17ffffff, kRet}).refusal, Refusal::jumps_back) << "b entry";
  EXPECT_EQ(plan_of({kBtiC, kNop, 0x54ffffe0, kRet}).refusal, Refusal::jumps_back) << "b.eq entry + 4";
  EXPECT_EQ(plan_of({kPaciasp, kNop, 0xb5ffffe1, kRet}).refusal, Refusal::jumps_back) << "cbnz x1, entry + 4";
  EXPECT_EQ(plan_of({kPaciasp, kNop, 0x97ffffff, kRet}).refusal, Refusal::jumps_back) << "bl entry + 4";
  EXPECT_EQ(plan_of({0x14000000}).refusal, Refusal::unrelocatable) << "b .";
  EXPECT_EQ(plan_of({0x94000001, kRet}).refusal, Refusal::reads_own_address) << "bl next";
  EXPECT_EQ(plan_of({kNop, 0x58ffffe0, kRet}).refusal, Refusal::reads_own_code) << "ldr x0, entry";
  EXPECT_EQ(plan_of({kNop, 0x10000040, 0xd61f0000, kRet}).refusal, Refusal::unknown_jump_table) << "adr x0, .+8; br x0";
  EXPECT_EQ(plan_of({kNop, 0xd61f0000}).form, JumpForm::whole) << "a call at the end";
  EXPECT_EQ(plan_of({kNop, 0x97ffffff, kRet}).form, JumpForm::whole) << "calls itself";
  const Code call({0x94000100, kRet});
  EXPECT_TRUE(Aarch64Code::plan(call.function).has_call);
  Function function = call.function;
  function.has_landing_pads = true;
  EXPECT_EQ(Aarch64Code::plan(function).refusal, Refusal::has_landing_pads);
  EXPECT_TRUE(plan_of({0xd63f0020, kRet}).has_call) << "blr x1";
}

TEST(Aarch64Plan, JumpsFromOtherFunctionsAreFound) {
  const Words words = {kPaciasp, 0xa9bf7bfd, kRet, 0x17fffffe};  // and behind the function b entry + 4
  const Code text(words);
  JumpTargets targets;
  ASSERT_TRUE(targets.find<Aarch64Code>(text.function.body));
  Function function = text.function;
  function.body.size = 12;
  function.jumps = &targets;
  EXPECT_EQ(Aarch64Code::plan(function).refusal, Refusal::jumped_into);
}

TEST(Aarch64Relocate, WhatIsNotRelativeIsCopied) {
  std::vector<Boundary> map;
  EXPECT_EQ(moved({0xa9bf7bfd, kRet}, kEntry, kTrampoline, &map), (Words{0xa9bf7bfd, back(1)}));
  ASSERT_EQ(map.size(), 2U);
  EXPECT_EQ(map[1].function_offset, 4U);
  EXPECT_EQ(map[1].trampoline_offset, 4U);
}

// The function's page is 0xff pages before the trampoline's when the operand is 0x1000 bytes further: adrp is b0fff800.
TEST(Aarch64Relocate, AddressesBecomePairs) {
  EXPECT_EQ(moved({0x300091a3, kRet}), (Words{0xb0fff803, 0x9108d463, back(2)})) << "adr x3, . + 0x1235";
  EXPECT_EQ(moved({0x3000919f, kRet}), (Words{kNop, back(1)})) << "adr xzr";
  EXPECT_EQ(moved({0xb0000004, kRet}), (Words{0xb0fff804, back(1)})) << "adrp x4, . + 0x1000";
}

TEST(Aarch64Relocate, LoadsOfLabelsBecomeThree) {
  const std::uint32_t at = 0x1008 << 3;  // . + 0x1008
  const auto expect = [](std::uint32_t load, std::uint32_t address, std::uint32_t then) {
    EXPECT_EQ(moved({load, kRet}), (Words{0xb0fff800 | address, 0x91002000 | address << 5 | address, then, back(3)}));
  };
  expect(0x18000005 | at, 5, 0xb94000a5);   // ldr w5
  expect(0x58000006 | at, 6, 0xf94000c6);   // ldr x6
  expect(0x98000007 | at, 7, 0xb98000e7);   // ldrsw x7
  expect(0xd8000000 | at, 16, 0xf9800200);  // prfm pldl1keep
  expect(0x1c000008 | at, 16, 0xbd400208);  // ldr s8
  expect(0x5c000009 | at, 16, 0xfd400209);  // ldr d9
  expect(0x9c00000a | at, 16, 0x3dc0020a);  // ldr q10
  expect(0x5800001f | at, 16, 0xf940021f);  // ldr xzr
}

// . + 0x400 is 0x400 - 0x100000 bytes from the trampoline, and four less where a word stands before it.
TEST(Aarch64Relocate, JumpsAreAimedAgain) {
  EXPECT_EQ(moved({0x14000100, kRet}), (Words{0x17fc0100, back(1)})) << "b";
  EXPECT_EQ(moved({0x94000100, kRet}), (Words{0x97fc0100, back(1)})) << "bl";
  EXPECT_EQ(moved({0x54002000, kRet}), (Words{0x54000041, 0x17fc00ff, back(2)})) << "b.eq: b.ne over b";
  EXPECT_EQ(moved({0x54002010, kRet}), (Words{0x54000051, 0x17fc00ff, back(2)})) << "bc.eq";
  EXPECT_EQ(moved({0x5400200e, kRet}), (Words{0x17fc0100, back(1)})) << "b.al";
  EXPECT_EQ(moved({0x34002001, kRet}), (Words{0x35000041, 0x17fc00ff, back(2)})) << "cbz w1";
  EXPECT_EQ(moved({0xb5002002, kRet}), (Words{0xb4000042, 0x17fc00ff, back(2)})) << "cbnz x2";
  EXPECT_EQ(moved({0x36282003, kRet}), (Words{0x37280043, 0x17fc00ff, back(2)})) << "tbz w3, #5";
  EXPECT_EQ(moved({0xb7402004, kRet}), (Words{0xb6400044, 0x17fc00ff, back(2)})) << "tbnz x4, #40";
}

TEST(Aarch64Relocate, OutOfReachIsRefused) {
  const std::uint64_t reach = std::uint64_t{128} << 20;
  EXPECT_EQ(moved({kNop, kRet}, kEntry, kEntry + reach).size(), 2U) << "the way back is four bytes less, and four more";
  EXPECT_EQ(moved({kNop, kRet}, kEntry, kEntry + reach + 4).size(), 0U);
  EXPECT_EQ(moved({0x14000100, kRet}, kEntry, kEntry + reach + 4).size(), 0U);
  const EntryPlan plan = plan_of({kNop, kRet});
  EXPECT_TRUE(Aarch64Code::reaches(plan, kEntry, kEntry + reach - 4));
  EXPECT_FALSE(Aarch64Code::reaches(plan, kEntry, kEntry + reach));
  EXPECT_TRUE(Aarch64Code::reaches(plan, kEntry, kEntry - reach));
  EXPECT_FALSE(Aarch64Code::reaches(plan, kEntry, kEntry - reach - 4));
}

TEST(Aarch64Relocate, AStubReachesEverything) {
  const CodeBytes stub = Aarch64Code::stub(kEntry, 0x1122334455667788);
  ASSERT_EQ(stub.size, 16U);
  EXPECT_EQ(aarch64::word_at(stub.bytes), 0x58000050U);
  EXPECT_EQ(aarch64::word_at(stub.bytes + 4), 0xd61f0200U);
  EXPECT_EQ(aarch64::word_at(stub.bytes + 8), 0x55667788U);
  EXPECT_EQ(aarch64::word_at(stub.bytes + 12), 0x11223344U);
}

// ---- with other tools

/// A folder for one test.
struct Folder {
  char path[32] = "/tmp/shunt-arch-XXXXXX";
  Folder() { EXPECT_NE(mkdtemp(path), nullptr); }
  ~Folder() { std::system(("rm -rf " + std::string(path)).c_str()); }
  [[nodiscard]] std::string file(const char *name) const { return std::string(path) + "/" + name; }
};

bool has(const char *tool) { return std::system(("command -v " + std::string(tool) + " >/dev/null").c_str()) == 0; }

std::vector<std::uint8_t> read_file(const std::string &name) {
  std::ifstream file(name, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

int run(const std::string &command) {
  const int status = std::system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
}

// Functions of one number that begin with each instruction that names a place, 64 bytes each. The caller compares the number with 3
// before it calls, and puts its own address in x9 as well, so that a function can begin with a call.
constexpr const char *kFunctions = R"(
  .macro begin
  .balign 64
  .endm
  begin; adr x1, number; ldr x1, [x1]; add x0, x0, x1; ret
  begin; adrp x1, number; add x1, x1, :lo12:number; ldr x1, [x1]; add x0, x0, x1; ret
  begin; ldr w1, number; add x0, x0, x1; ret
  begin; ldr x1, number; add x0, x0, x1; ret
  begin; ldrsw x1, number; add x0, x0, x1; ret
  begin; prfm pldl1keep, number; add x0, x0, #1; ret
  begin; ldr s0, number; fmov w1, s0; add x0, x0, x1; ret
  begin; ldr d0, number; fmov x1, d0; add x0, x0, x1; ret
  begin; ldr q0, number; mov x1, v0.d[1]; add x0, x0, x1; ret
  begin; b 1f; mov x0, #0; 1: add x0, x0, #5; ret
  begin; bl helper; add x0, x0, #1; ret x9
  begin; b.eq 1f; add x0, x0, #100; 1: add x0, x0, #5; ret
  begin; b.hi 1f; add x0, x0, #100; 1: add x0, x0, #5; ret
  begin; cbz x0, 1f; add x0, x0, #100; 1: add x0, x0, #5; ret
  begin; cbnz w0, 1f; add x0, x0, #100; 1: add x0, x0, #5; ret
  begin; tbz x0, #1, 1f; add x0, x0, #100; 1: add x0, x0, #5; ret
  begin; tbnz w0, #0, 1f; add x0, x0, #100; 1: add x0, x0, #5; ret
  begin; hint #34; cbz x0, 1f; add x0, x0, #100; 1: add x0, x0, #5; ret
  begin; hint #25; ldr x1, number; add x0, x0, x1; hint #29; ret
  .balign 64
number: .quad 0x8123456789abcdef, 0x1111111122222222
helper: add x0, x0, #7; ret
  .balign 4096
)";
constexpr std::size_t kCount = 19;
constexpr std::uint64_t kText = 0x400000, kMoved = kText + 0x200000;

constexpr const char *kDriver = R"(
  .global _start
_start: mov x20, #0
1: mov x21, #0
2: mov x0, x21; ldr x1, =functions; lsl x2, x20, #6; add x2, x1, x2; cmp x0, #3; adr x9, 3f; blr x2
3: mov x22, x0
  mov x0, x21; ldr x1, =trampolines; lsl x2, x20, #6; add x2, x1, x2; cmp x0, #3; adr x9, 4f; blr x2
4: cmp x0, x22; b.ne 5f
  add x21, x21, #1; cmp x21, #8; b.ne 2b
  add x20, x20, #1; cmp x20, #COUNT; b.ne 1b
  mov x20, #-1
5: add x0, x20, #1; mov x8, #93; svc #0
)";

TEST(Aarch64Tools, TrampolinesRunAsTheFunctionsDo) {
  for (const char *tool : {"aarch64-linux-gnu-as", "aarch64-linux-gnu-ld", "aarch64-linux-gnu-objcopy", "qemu-aarch64"})
    if (!has(tool)) GTEST_SKIP() << tool << " is not installed (binutils-aarch64-linux-gnu, qemu-user)";
  const Folder folder;
  const std::string cd = "cd " + std::string(folder.path) + " && aarch64-linux-gnu-";
  std::ofstream(folder.file("functions.s")) << "functions:\n" << kFunctions;
  ASSERT_EQ(run(cd + "as functions.s -o functions.o"), 0);
  ASSERT_EQ(run(cd + "ld -Ttext=0x400000 -e 0 functions.o -o functions && aarch64-linux-gnu-objcopy -O binary -j .text "
                     "functions functions.bin"),
            0);
  const std::vector<std::uint8_t> text = read_file(folder.file("functions.bin"));
  ASSERT_GE(text.size(), kCount * 64);

  std::ofstream all(folder.file("all.s"));
  all << "functions:\n"
      << kFunctions << "\n.set COUNT, " << kCount << "\n"
      << kDriver << "\n.ltorg\n.org 0x200000\ntrampolines:\n";
  for (std::size_t k = 0; k < kCount; ++k) {
    Function function;
    function.body = {kText + k * 64, text.data() + k * 64, 24};
    const EntryPlan plan = Aarch64Code::plan(function);
    ASSERT_EQ(plan.form, JumpForm::whole) << k;
    std::vector<std::uint8_t> out(plan.trampoline_bytes);
    std::vector<Boundary> map(plan.instructions + 1);
    std::uint32_t size = 0;
    ASSERT_EQ(Aarch64Code::relocate(plan, function.body, kMoved + k * 64, out, map, size), Relocated::done) << k;
    all << ".balign 64\n";
    for (std::uint32_t at = 0; at < size; at += 4) all << ".word " << aarch64::word_at(out.data() + at) << "\n";
  }
  all.close();
  ASSERT_EQ(run(cd + "as all.s -o all.o"), 0);
  ASSERT_EQ(run(cd + "ld -Ttext=0x400000 all.o -o all"), 0);

  EXPECT_EQ(run("qemu-aarch64 -cpu max " + folder.file("all")), 0)
      << "the number of the function that differs, from 1 on";
}

// Each word that names a place, read by objdump: both must say the same place.
TEST(Aarch64Tools, AnotherDecoderSeesTheSameTargets) {
  if (!has("aarch64-linux-gnu-objdump")) GTEST_SKIP() << "aarch64-linux-gnu-objdump is not installed";
  const Folder folder;
  Words words;
  std::uint32_t state = 12345;
  const auto random = [&state] { return state = state * 1664525 + 1013904223; };
  for (const std::uint32_t base :
       {0x10000000U, 0x90000000U, 0x18000000U, 0x58000000U, 0x98000000U, 0xd8000000U, 0x1c000000U, 0x5c000000U,
        0x9c000000U, 0x14000000U, 0x94000000U, 0x54000000U, 0x34000000U, 0xb5000000U, 0x36000000U, 0xb7000000U})
    for (int k = 0; k < 40; ++k) {
      const std::uint32_t all = random() >> 3;
      const bool is_branch = (base & 0x7c000000) == 0x14000000;
      words.push_back(base |
                      (is_branch                                      ? all & 0x3ffffff
                       : base == 0x54000000U                          ? (all & 0xffffe0) | k % 14
                       : (base >> 24) == 0x10 || (base >> 24) == 0x90 ? (all & 0xffffff) | (random() & 0x60000000)
                                                                      : all & 0xffffff));
    }
  const Code code(words, 0x4000'0000'0000);
  {
    std::ofstream out(folder.file("words"), std::ios::binary);
    out.write(reinterpret_cast<const char *>(code.bytes.data()), static_cast<std::streamsize>(code.bytes.size()));
  }
  ASSERT_EQ(run("aarch64-linux-gnu-objdump -D -b binary -m aarch64 --adjust-vma=0x400000000000 " +
                folder.file("words") + " > " + folder.file("text")),
            0);
  std::ifstream text(folder.file("text"));
  std::size_t compared = 0;
  for (std::string line; std::getline(text, line);) {
    std::uint64_t address = 0;
    std::uint32_t word = 0;
    if (std::sscanf(line.c_str(), " %lx:\t%x", &address, &word) != 2) continue;
    std::size_t operand = line.find("0x", 10);
    for (std::size_t next; (next = line.find("0x", operand + 1)) != std::string::npos;) operand = next;
    ASSERT_NE(operand, std::string::npos) << line;
    EXPECT_EQ(aarch64::decode(word, address).target, std::stoull(line.substr(operand), nullptr, 16)) << line;
    ++compared;
  }
  EXPECT_EQ(compared, words.size());
}

}  // namespace
