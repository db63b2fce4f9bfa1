// lib/arch/x86_64: which bytes become a jump, and where the displaced instructions go. Bytes only, so on every host.
//
// Shown to fail (each guard taken out, the test seen to fail, the guard put back):
//   EntryPlan…   look_at_body() without the parts, without tables of either form, without uses(); displace() without runs_on();
//                has_padding_before() that always is; check_elsewhere() without lead_to(); the site without endbr64
//   Relocate…    put() with the displacement off by one; find_inner() that leaves the target; the condition without ^ 1
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "arch/jump_targets.hpp"
#include "arch/x86_64/code.hpp"

namespace {

using namespace shunt::core::arch;
using Byte = std::vector<std::uint8_t>;

constexpr std::uint64_t kEntry = 0x5000'0000;

/// "48 8b 05 ..": bytes.
Byte hex(const std::string &text) {
  Byte bytes;
  for (std::size_t at = 0; at < text.size(); at += 3)
    bytes.push_back(static_cast<std::uint8_t>(std::stoi(text.substr(at, 2), nullptr, 16)));
  return bytes;
}

std::string to_hex(const std::uint8_t *bytes, std::size_t size) {
  std::string text;
  char two[4];
  for (std::size_t k = 0; k < size; ++k) {
    std::snprintf(two, sizeof two, "%s%02x", k == 0 ? "" : " ", bytes[k]);
    text += two;
  }
  return text;
}

/// A function at kEntry between what lies before and behind it.
struct Code {
  Byte all;
  Function function;

  explicit Code(const std::string &body, const std::string &before = "", const std::string &after = "") {
    const Byte in_front = hex(before), behind = hex(after);
    const Byte own = hex(body);
    all = in_front;
    all.insert(all.end(), own.begin(), own.end());
    all.insert(all.end(), behind.begin(), behind.end());
    function.body = {kEntry, all.data() + in_front.size(), own.size()};
    function.before = in_front.size();
    function.after = behind.size();
  }
  Code(const Code &) = delete;
  Code &operator=(const Code &) = delete;
};

class X86_64Test : public testing::Test {
 protected:
  void SetUp() override {
    if (!X86_64Code::ready()) GTEST_SKIP() << "libZydis.so.4.0 is not installed";
  }
};
using EntryPlanX86_64 = X86_64Test;
using RelocateX86_64 = X86_64Test;

EntryPlan plan_of(const std::string &body, const std::string &before = "", const std::string &after = "") {
  const Code code(body, before, after);
  return X86_64Code::plan(code.function);
}

constexpr const char *kNops5 = "90 90 90 90 90", *kTraps5 = "cc cc cc cc cc";
constexpr const char *kRest = " 90 90 90 90 90 90 90 90 c3";

// ---- plan

TEST_F(EntryPlanX86_64, WholeInstructionsMakeRoomForAJump) {
  const EntryPlan plan = plan_of("55 48 89 e5 53 48 83 ec 08 c3");  // push rbp; mov rbp, rsp; push rbx; sub rsp, 8; ret

  EXPECT_EQ(plan.form, JumpForm::whole);
  EXPECT_EQ(plan.site, 0U);
  EXPECT_EQ(plan.changed, 5U);
  EXPECT_EQ(plan.displaced, 5U);
  EXPECT_EQ(plan.instructions, 3U);
  EXPECT_TRUE(plan.has_inner_boundary);
  EXPECT_FALSE(plan.has_call);
  EXPECT_FALSE(plan.copies_body);
}

TEST_F(EntryPlanX86_64, OneLongInstructionHasNoPlaceForAThreadInside) {
  const EntryPlan plan = plan_of("48 81 ec 00 10 00 00 c3");  // sub rsp, 4096; ret
  EXPECT_EQ(plan.form, JumpForm::whole);
  EXPECT_EQ(plan.displaced, 7U);
  EXPECT_FALSE(plan.has_inner_boundary);
}

// e27
TEST_F(EntryPlanX86_64, Endbr64StaysFirst) {
  const EntryPlan plan = plan_of("f3 0f 1e fa 55 48 89 e5 53 c3");
  EXPECT_EQ(plan.form, JumpForm::whole);
  EXPECT_EQ(plan.site, 4U);
  EXPECT_EQ(plan.displaced, 9U);
  EXPECT_EQ(X86_64Code::entry_bytes(plan, kEntry, kEntry).entry.address, kEntry + 4);
}

// e27: -fpatchable-function-entry=7,5
TEST_F(EntryPlanX86_64, NopsAtTheEntryAndBeforeItTakeAShortJump) {
  const EntryPlan plan = plan_of("90 90 55 48 89 e5 5d c3", kNops5);
  EXPECT_EQ(plan.form, JumpForm::in_padding);
  EXPECT_EQ(plan.changed, 2U);
  EXPECT_EQ(plan.displaced, 2U);
  EXPECT_TRUE(plan.has_inner_boundary) << "between the two NOPs";

  const EntryBytes bytes = X86_64Code::entry_bytes(plan, kEntry, kEntry + 0x1000);

  EXPECT_EQ(bytes.padding.address, kEntry - 5);
  EXPECT_EQ(to_hex(bytes.padding.bytes, bytes.padding.size), "e9 00 10 00 00");
  EXPECT_EQ(bytes.entry.address, kEntry);
  EXPECT_EQ(to_hex(bytes.entry.bytes, bytes.entry.size), "eb f9");
}

TEST_F(EntryPlanX86_64, NopsBehindEndbr64TakeAShortJump) {
  const EntryPlan plan = plan_of("f3 0f 1e fa 66 90 55 48 89 e5 5d c3", kNops5);
  EXPECT_EQ(plan.form, JumpForm::in_padding);
  EXPECT_EQ(plan.site, 4U);
  EXPECT_FALSE(plan.has_inner_boundary) << "66 90 is one instruction";
  EXPECT_EQ(to_hex(X86_64Code::entry_bytes(plan, kEntry, kEntry).entry.bytes, 2), "eb f5");
}

// e27: lea rsp, [rsp + 0] in eight bytes, and 32 int3 before it
TEST_F(EntryPlanX86_64, AHookPrologueTakesAShortJump) {
  const EntryPlan plan = plan_of("48 8d a4 24 00 00 00 00 55 c3", std::string(kTraps5) + " " + kTraps5);
  EXPECT_EQ(plan.form, JumpForm::in_padding);
  EXPECT_EQ(plan.displaced, 8U);
  EXPECT_FALSE(plan.has_inner_boundary);
}

// e27: -fpatchable-function-entry=5
TEST_F(EntryPlanX86_64, FiveNopsTakeAJump) {
  const EntryPlan plan = plan_of("90 90 90 90 90 55 48 89 e5 5d c3", "c3");
  EXPECT_EQ(plan.form, JumpForm::whole);
  EXPECT_EQ(plan.displaced, 5U);
}

TEST_F(EntryPlanX86_64, NopsOfEveryLengthArePadding) {
  for (const char *nop :
       {"66 90", "0f 1f 00", "0f 1f 40 00", "0f 1f 44 00 00", "66 0f 1f 44 00 00", "0f 1f 80 00 00 00 00",
        "0f 1f 84 00 00 00 00 00", "66 0f 1f 84 00 00 00 00 00", "66 2e 0f 1f 84 00 00 00 00 00",
        "66 66 2e 0f 1f 84 00 00 00 00 00", "cc cc cc", "90 90 90"}) {
    const EntryPlan plan = plan_of("31 c0 c3", "", std::string(nop) + " 90 90");
    EXPECT_EQ(plan.form, JumpForm::over_padding) << nop;
    EXPECT_EQ(plan.displaced, 3U) << nop;
  }
}

// e22
TEST_F(EntryPlanX86_64, AShortFunctionUsesThePaddingAroundIt) {
  EXPECT_EQ(plan_of("c3", "", "90 90 90 90").form, JumpForm::over_padding);
  EXPECT_EQ(plan_of("c3", "", "0f 1f 40 00").form, JumpForm::over_padding);
  EXPECT_EQ(plan_of("31 c0 c3", "", "cc cc").form, JumpForm::over_padding);
  EXPECT_EQ(plan_of("31 c0 c3", kNops5, "").form, JumpForm::in_padding);
  EXPECT_EQ(plan_of("f3 0f 1e fa c3", "", "90 90 90 90").form, JumpForm::over_padding);
}

// e22
TEST_F(EntryPlanX86_64, AShortFunctionBetweenOthersIsRefused) {
  EXPECT_EQ(plan_of("c3").refusal, Refusal::too_short);
  EXPECT_EQ(plan_of("c3", kNops5).refusal, Refusal::too_short) << "not even a short jump fits";
  EXPECT_EQ(plan_of("31 c0 c3", "", "90").refusal, Refusal::too_short) << "four bytes in all";
  EXPECT_EQ(plan_of("31 c0 c3", "", "90 00").refusal, Refusal::too_short) << "data behind it";
  EXPECT_EQ(plan_of("31 c0 c3", "c3 90 90 90 90", "").refusal, Refusal::too_short) << "four NOPs before it";
  EXPECT_EQ(plan_of("31 c0 c3", "", "90 0f 1f 44").refusal, Refusal::too_short) << "a NOP that is cut off";
  EXPECT_EQ(plan_of("31 c0 90", "", "90 90 90").refusal, Refusal::falls_through);
  EXPECT_EQ(plan_of("").refusal, Refusal::size_unknown);
}

TEST_F(EntryPlanX86_64, WhatIsNoInstructionIsRefused) {
  const EntryPlan first = plan_of("06 90 90 90 90 c3"), later = plan_of("55 48 89 e5 53 90 06 c3"),
                  cut = plan_of("55 48 89 e5 53 48 8b 05 00");
  EXPECT_EQ(first.refusal, Refusal::unknown_instruction);
  EXPECT_EQ(later.refusal, Refusal::unknown_instruction);
  EXPECT_EQ(later.refused_at, 6U);
  EXPECT_EQ(cut.refusal, Refusal::unknown_instruction) << "the last instruction goes on behind the end";
}

// e25
TEST_F(EntryPlanX86_64, AJumpBackIntoTheBytesThatChangeIsFound) {
  // push rbx; xor eax, eax; inc eax; ...; jcc to 1 (xor) or 3 (inc). In parts and by table below.
  EXPECT_EQ(plan_of("53 31 c0 ff c0 3d 10 00 00 00 75 f5 5b c3").refusal, Refusal::jumps_back) << "near: jne 1";
  EXPECT_EQ(plan_of("53 31 c0 ff c0 3d 10 00 00 00 0f 85 f1 ff ff ff 5b c3").refusal, Refusal::jumps_back)
      << "far: jne 1";
  EXPECT_EQ(plan_of("53 31 c0 ff c0 90 e2 f9 5b c3").refusal, Refusal::jumps_back) << "loop 1";
  EXPECT_EQ(plan_of("53 31 c0 ff c0 90 e3 f9 5b c3").refusal, Refusal::jumps_back) << "jrcxz 1";
  const EntryPlan behind = plan_of("53 31 c0 ff c0 3d 10 00 00 00 75 f9 5b c3");
  EXPECT_EQ(behind.form, JumpForm::whole) << "jne 5: the first byte that does not change";
}

// e25
TEST_F(EntryPlanX86_64, AShortJumpLeavesTheTargetOfAJumpBackAlone) {
  const EntryPlan plan = plan_of("53 31 c0 ff c0 3d 10 00 00 00 75 f7 5b c3", kNops5);  // jne 3
  EXPECT_EQ(plan.form, JumpForm::in_padding);
  EXPECT_EQ(plan.displaced, 3U);
}

// e25, through a jump table: cmp edi, 3; ja end; lea rdx, [table]; movsxd rax, [rdx + rdi * 4]; add rax, rdx; jmp rax; end: ret
constexpr const char *kSwitch = "83 ff 03 77 10 48 8d 15 f4 0f 00 00 48 63 04 ba 48 01 d0 ff e0 c3";

TEST_F(EntryPlanX86_64, JumpTablesAreReadForJumpsBack) {
  const Code code(kSwitch);
  std::vector<std::int32_t> table(4);
  const std::uint64_t address = kEntry + 0x1000;
  for (std::int32_t &entry : table) entry = static_cast<std::int32_t>(kEntry + 0x15 - address);
  std::vector<Bytes> data = {{address, reinterpret_cast<const std::uint8_t *>(table.data()), 16}};
  Function function = code.function;
  function.data = data;

  EXPECT_EQ(X86_64Code::plan(function).form, JumpForm::whole);

  table[2] = static_cast<std::int32_t>(kEntry + 3 - address);
  EXPECT_EQ(X86_64Code::plan(function).refusal, Refusal::jumps_back);

  std::vector<std::uint64_t> addresses = {kEntry + 0x15, kEntry + 3};  // the same with addresses
  data[0] = {address, reinterpret_cast<const std::uint8_t *>(addresses.data()), 16};
  EXPECT_EQ(X86_64Code::plan(function).refusal, Refusal::jumps_back);
}

TEST_F(EntryPlanX86_64, AComputedJumpWithoutATableIsRefused) {
  // lea rdx, [rip + 8] (its own code); add rdx, rdi; jmp rdx. And jmp [rax + rdi * 8].
  EXPECT_EQ(plan_of("48 8d 15 08 00 00 00 48 01 fa ff e2 90 90 90 90 c3").refusal, Refusal::unknown_jump_table);
  EXPECT_EQ(plan_of("48 83 ec 08 90 ff 24 f8 c3").refusal, Refusal::unknown_jump_table);
}

TEST_F(EntryPlanX86_64, ACallAtTheEndOfTheFunctionIsNoSwitch) {
  EXPECT_EQ(plan_of("48 8b 07 48 89 fe ff 60 10").form, JumpForm::whole) << "jmp [rax + 16]";
  EXPECT_EQ(plan_of("48 8b 07 48 89 fe ff e0").form, JumpForm::whole) << "jmp rax";
  EXPECT_EQ(plan_of("48 8b 07 48 89 fe ff 25 00 10 00 00").form, JumpForm::whole) << "jmp [rip + 0x1000]";
}

// e28
TEST_F(EntryPlanX86_64, AColdPartThatJumpsBackIsFound) {
  const Code code("53 31 c0 ff c0 e9 f6 0f 00 00");                            // jmp to the cold part
  const Byte cold = hex("e9 fc ef ff ff"), elsewhere = hex("e9 05 f0 ff ff");  // jmp entry + 1; jmp entry + 10
  const std::vector<Bytes> parts = {{kEntry + 0x1000, cold.data(), cold.size()}};
  const std::vector<Bytes> other = {{kEntry + 0x1000, elsewhere.data(), elsewhere.size()}};
  Function function = code.function;

  function.parts = parts;
  EXPECT_EQ(X86_64Code::plan(function).refusal, Refusal::jumps_back);
  function.parts = other;
  EXPECT_EQ(X86_64Code::plan(function).form, JumpForm::whole);
}

// e28
TEST_F(EntryPlanX86_64, JumpsFromOtherFunctionsAreFound) {
  Byte text = hex(std::string("55 48 89 e5 53") + kRest);
  const std::size_t size = text.size();
  const Byte jumps = hex("e8 00 00 00 00 0f 84 00 00 00 00");
  text.insert(text.end(), jumps.begin(), jumps.end());
  const auto aim = [&](std::size_t at, std::uint32_t target) {
    const auto displacement = static_cast<std::int32_t>(target) - static_cast<std::int32_t>(at + 4);
    std::memcpy(text.data() + at, &displacement, 4);
  };
  const auto refusal = [&] {
    const Bytes all = {kEntry, text.data(), text.size()};
    JumpTargets targets;
    EXPECT_TRUE(targets.find<X86_64Code>(all));
    Function function;
    function.body = {kEntry, text.data(), size};
    function.jumps = &targets;
    const EntryPlan plan = X86_64Code::plan(function);
    return std::pair(plan.refusal, plan.refused_at);
  };

  aim(size + 1, 0);  // call entry
  aim(size + 7, 5);  // je to the first byte that stays
  EXPECT_EQ(refusal(), std::pair(Refusal::none, 0U));
  aim(size + 7, 4);
  EXPECT_EQ(refusal(), std::pair(Refusal::jumped_into, 4U));
  aim(size + 7, 5);
  aim(size + 1, 1);
  EXPECT_EQ(refusal(), std::pair(Refusal::jumped_into, 1U));
}

/// Whether anybody calls a function, or may: with every kind of jump, also the shortest, that lead to where it begins, and code that takes
/// its address; wherever it begins.
TEST_F(EntryPlanX86_64, WhatIsCalledDirectlyIsKnown) {
  for (const std::uint32_t begin : {48U, 53U}) {
    for (const char *const jump : {"e8 00 00 00 00", "e9 00 00 00 00", "0f 84 00 00 00 00", "eb 00", "75 00",
                                   "48 8d 3d 00 00 00 00", "4c 8d 05 00 00 00 00", ""}) {
      Byte text(160, 0x90);
      const Byte bytes = hex(jump);
      std::copy(bytes.begin(), bytes.end(), text.begin() + 100);
      const auto displacement = static_cast<std::int32_t>(begin) - static_cast<std::int32_t>(100 + bytes.size());
      const std::size_t width = bytes.size() == 2 ? 1 : 4;
      if (!bytes.empty()) std::memcpy(text.data() + 100 + bytes.size() - width, &displacement, width);
      JumpTargets targets;
      ASSERT_TRUE(targets.find<X86_64Code>({kEntry, text.data(), text.size()}));
      for (const std::uint32_t other : {begin, begin - 16, begin + 16})
        EXPECT_EQ(targets.leads_to(kEntry + other), !bytes.empty() && other == begin)
            << jump << " to +" << begin << ", asked for +" << other;
    }
  }
}

// e28: a function that starts with a loop is copied as a whole.
TEST_F(EntryPlanX86_64, ALoopAtTheEntryIsCopied) {
  Byte text = hex("80 3f 00 74 05 48 ff c7 eb f6 c3");  // cmp byte [rdi], 0; je end; inc rdi; jmp entry; end: ret
  JumpTargets targets;
  const Bytes all = {kEntry, text.data(), text.size()};
  ASSERT_TRUE(targets.find<X86_64Code>(all));
  Function function;
  function.body = all;
  function.jumps = &targets;

  const EntryPlan plan = X86_64Code::plan(function);

  EXPECT_EQ(plan.form, JumpForm::whole);
  EXPECT_TRUE(plan.copies_body);
  EXPECT_EQ(plan.displaced, text.size());

  function.jumps = nullptr;
  EXPECT_EQ(X86_64Code::plan(function).refusal, Refusal::jumps_back) << "who else jumps into the body is not known";
}

TEST_F(EntryPlanX86_64, ACallOfItselfIsACallLikeAnyOther) {
  EXPECT_EQ(plan_of("48 83 ec 08 90 e8 f6 ff ff ff 48 83 c4 08 c3").form, JumpForm::whole);
}

// e26
TEST_F(EntryPlanX86_64, ACallAmongTheFirstBytesIsSaid) {
  EXPECT_TRUE(plan_of("50 e8 00 10 00 00 58 c3").has_call);
  EXPECT_TRUE(plan_of("50 ff 15 00 10 00 00 58 c3").has_call);
  const Code code("50 e8 00 10 00 00 58 c3");
  Function function = code.function;
  function.has_landing_pads = true;
  EXPECT_EQ(X86_64Code::plan(function).refusal, Refusal::has_landing_pads);
}

TEST_F(EntryPlanX86_64, WhatReadsItsOwnPlaceIsRefused) {
  EXPECT_EQ(plan_of("e8 00 00 00 00 58 c3").refusal, Refusal::reads_own_address) << "call next; pop rax";
  EXPECT_EQ(plan_of("55 48 89 e5 53 8b 05 f6 ff ff ff c3").refusal, Refusal::reads_own_code) << "mov eax, [entry + 1]";
  EXPECT_EQ(plan_of("8b 05 fc ff ff ff c3 90").refusal, Refusal::reads_own_code) << "the same, displaced itself";
  EXPECT_EQ(plan_of("48 8d 05 f9 ff ff ff c3").form, JumpForm::whole)
      << "lea rax, [entry] is a pointer to the function";
  EXPECT_EQ(plan_of("67 8b 05 00 10 00 00 c3").refusal, Refusal::unrelocatable) << "relative to eip";
  EXPECT_EQ(plan_of("66 e9 00 10 90 90 c3").refusal, Refusal::unrelocatable) << "16 bits of displacement";
}

// ---- relocate

/// The trampoline of `body` at `distance` from the entry, as hex; or what was wrong.
std::string moved(const std::string &body, std::uint64_t distance, std::vector<Boundary> *boundaries = nullptr,
                  bool copies = false) {
  const Code code(body);
  JumpTargets none;
  Function function = code.function;
  if (copies && !none.find<X86_64Code>(function.body)) return "no memory";
  if (copies) function.jumps = &none;
  const EntryPlan plan = X86_64Code::plan(function);
  if (plan.form == JumpForm::refused) return std::string("refused: ") + refusal_text(plan.refusal);
  Byte out(plan.trampoline_bytes, 0xcc);
  std::vector<Boundary> map(plan.instructions + 1);
  std::uint32_t size = 0;
  switch (X86_64Code::relocate(plan, function.body, kEntry + distance, out, map, size)) {
    case Relocated::done:
      break;
    case Relocated::out_of_reach:
      return "out of reach";
    default:
      return "impossible";
  }
  if (boundaries != nullptr) *boundaries = map;
  return to_hex(out.data(), size);
}

constexpr std::uint64_t kNear = 0x1000, kFar = std::uint64_t{1} << 40;
// The jump back from the trampoline at 0x1000 of a body whose first N bytes were displaced, when the jump begins at offset B: it is
// relative to 0x1000 + B + 5.
std::string back(std::uint32_t displaced, std::uint32_t begin) {
  const std::uint32_t displacement = displaced - (0x1000 + begin + 5);
  std::uint8_t bytes[5] = {0xe9};
  std::memcpy(bytes + 1, &displacement, 4);
  return " " + to_hex(bytes, 5);
}

TEST_F(RelocateX86_64, WhatIsNotRelativeIsCopied) {
  EXPECT_EQ(moved("55 48 89 e5 53 c3", kNear), "55 48 89 e5 53" + back(5, 5));
  EXPECT_EQ(moved("f3 0f 1e fa 55 48 89 e5 53 c3", kNear), "f3 0f 1e fa 55 48 89 e5 53" + back(9, 9));
}

// e23: loads, stores, compare with immediates behind the displacement, SSE, AVX, EVEX, indirect calls and jumps. The operand is
// 0x2000 behind the instruction, so 0x1000 behind it from where it went.
TEST_F(RelocateX86_64, OperandsRelativeToTheInstructionStayTheSame) {
  for (const auto &[before, after] : std::vector<std::pair<const char *, const char *>>{
           {"48 8b 05 00 20 00 00", "48 8b 05 00 10 00 00"},                          // mov rax, [rip + x]
           {"48 89 05 00 20 00 00", "48 89 05 00 10 00 00"},                          // mov [rip + x], rax
           {"48 8d 3d 00 20 00 00", "48 8d 3d 00 10 00 00"},                          // lea rdi, [rip + x]
           {"80 3d 00 20 00 00 07", "80 3d 00 10 00 00 07"},                          // cmp byte [rip + x], imm8
           {"66 81 3d 00 20 00 00 07 08", "66 81 3d 00 10 00 00 07 08"},              // cmp word, imm16
           {"81 3d 00 20 00 00 01 02 03 04", "81 3d 00 10 00 00 01 02 03 04"},        // cmp dword, imm32
           {"48 c7 05 00 20 00 00 01 02 03 04", "48 c7 05 00 10 00 00 01 02 03 04"},  // mov qword, imm32
           {"ff 05 00 20 00 00", "ff 05 00 10 00 00"},                                // inc dword [rip + x]
           {"f0 48 0f b1 0d 00 20 00 00", "f0 48 0f b1 0d 00 10 00 00"},              // lock cmpxchg
           {"f2 0f 10 05 00 20 00 00", "f2 0f 10 05 00 10 00 00"},                    // movsd xmm0, [rip + x]
           {"66 0f 3a 0f 05 00 20 00 00 04", "66 0f 3a 0f 05 00 10 00 00 04"},        // palignr xmm0, [rip + x], 4
           {"c5 fc 28 05 00 20 00 00", "c5 fc 28 05 00 10 00 00"},                    // vmovaps ymm0, [rip + x]
           {"c4 e3 7d 0f 05 00 20 00 00 04", "c4 e3 7d 0f 05 00 10 00 00 04"},  // vpalignr ymm0, ymm0, [rip + x], 4
           {"62 f1 7c 48 28 05 00 20 00 00", "62 f1 7c 48 28 05 00 10 00 00"},  // vmovaps zmm0, [rip + x]
           {"48 0f af 05 00 20 00 00", "48 0f af 05 00 10 00 00"},              // imul rax, [rip + x]
           {"69 05 00 20 00 00 01 02 03 04", "69 05 00 10 00 00 01 02 03 04"},  // imul eax, [rip + x], imm32
           {"ff 15 00 20 00 00", "ff 15 00 10 00 00"},                          // call [rip + x]
           {"ff 25 00 20 00 00", "ff 25 00 10 00 00"},                          // jmp [rip + x]
           {"ff 35 00 20 00 00", "ff 35 00 10 00 00"},                          // push [rip + x]
           {"0f 18 0d 00 20 00 00", "0f 18 0d 00 10 00 00"},                    // prefetcht0 [rip + x]
           {"0f ae 15 00 20 00 00", "0f ae 15 00 10 00 00"},                    // ldmxcsr [rip + x]
           {"d9 05 00 20 00 00", "d9 05 00 10 00 00"},                          // fld dword [rip + x]
           {"c7 f8 00 20 00 00", "c7 f8 00 10 00 00"},                          // xbegin
       }) {
    const auto size = static_cast<std::uint32_t>(hex(before).size());
    EXPECT_EQ(moved(std::string(before) + kRest, kNear), after + back(size, size)) << before;
    // Second, behind an instruction of three bytes.
    EXPECT_EQ(moved(std::string("48 89 f8 ") + before + kRest, kNear),
              std::string("48 89 f8 ") + after + back(size + 3, size + 3))
        << before;
    EXPECT_EQ(moved(std::string(before) + kRest, kFar), "out of reach") << before;
  }
}

// e23, e24
TEST_F(RelocateX86_64, ConditionalJumpsBecomeLong) {
  for (unsigned condition = 0; condition < 16; ++condition) {
    char shorter[128], longer[128], moved_to[128];
    std::snprintf(shorter, sizeof shorter, "48 85 ff %02x 10%s%s", 0x70 + condition, kRest, kRest);
    std::snprintf(longer, sizeof longer, "48 85 ff 0f %02x 10 20 00 00", 0x80 + condition);
    // From 3 + 2 + 16 = 21; there from 0x1000 + 9, so 21 - 0x1009.
    std::snprintf(moved_to, sizeof moved_to, "48 85 ff 0f %02x 0c f0 ff ff", 0x80 + condition);
    EXPECT_EQ(moved(shorter, kNear), moved_to + back(5, 9));
    std::snprintf(moved_to, sizeof moved_to, "48 85 ff 0f %02x 10 10 00 00", 0x80 + condition);
    EXPECT_EQ(moved(std::string(longer) + kRest, kNear), moved_to + back(9, 9));
    // Far away: the opposite condition jumps over jmp [rip]; 0x50000015; and back by another.
    std::snprintf(moved_to, sizeof moved_to, "48 85 ff %02x 0e ff 25 00 00 00 00 15 00 00 50 00 00 00 00",
                  0x70 + (condition ^ 1));
    EXPECT_EQ(moved(shorter, kFar), moved_to + std::string(" ff 25 00 00 00 00 05 00 00 50 00 00 00 00"));
  }
}

// e24
TEST_F(RelocateX86_64, JumpsBecomeLong) {
  EXPECT_EQ(moved(std::string("48 89 f8 eb 05") + kRest, kNear), "48 89 f8 e9 02 f0 ff ff" + back(5, 8));
  EXPECT_EQ(moved("e9 00 20 00 00", kNear), "e9 00 10 00 00" + back(5, 5));
  EXPECT_EQ(moved("e9 00 20 00 00", kFar),
            "ff 25 00 00 00 00 05 20 00 50 00 00 00 00 ff 25 00 00 00 00 05 00 00 50 00 00 00 00");
}

// e24: loop and its like jump over a short jump to a long one. Forward, and backward to the caller's neighbour.
TEST_F(RelocateX86_64, LoopsAreRewritten) {
  for (const char *opcode : {"e0", "e1", "e2", "e3"}) {
    const std::string op = opcode;
    EXPECT_EQ(moved("48 89 f8 " + op + " 05" + kRest, kNear),
              "48 89 f8 " + op + " 02 eb 05 e9 fe ef ff ff" + back(5, 12));
    EXPECT_EQ(moved("48 89 f8 " + op + " f0" + kRest, kNear),
              "48 89 f8 " + op + " 02 eb 05 e9 e9 ef ff ff" + back(5, 12));
    EXPECT_EQ(moved("48 89 f8 " + op + " 05" + kRest, kFar),
              "48 89 f8 " + op +
                  " 02 eb 0e ff 25 00 00 00 00 0a 00 00 50 00 00 00 00 ff 25 00 00 00 00 05 00 00 50 00 00 00 00");
  }
  EXPECT_EQ(moved(std::string("48 89 67 e3 05") + kRest, kNear), moved(std::string("48 89 67 e3 05") + kRest, kNear));
  EXPECT_EQ(moved(std::string("90 90 67 e3 05") + kRest, kNear), "90 90 67 e3 02 eb 05 e9 fe ef ff ff" + back(5, 12))
      << "jecxz keeps its prefix";
}

// e24: into the displaced bytes, which are all in the trampoline.
TEST_F(RelocateX86_64, JumpsAmongTheDisplacedStayAmongThem) {
  // dec edi; jne entry; ret
  EXPECT_EQ(moved(std::string("ff cf 75 fc c3") + kRest, kNear), "ff cf 0f 85 f8 ff ff ff c3" + back(5, 9));
  // jrcxz +1; nop; nop; nop
  EXPECT_EQ(moved(std::string("e3 01 90 90 90") + kRest, kNear), "e3 02 eb 05 e9 01 00 00 00 90 90 90" + back(5, 12));
  // jmp into the middle of an instruction
  EXPECT_EQ(moved(std::string("eb 01 b8 00 00 00 00") + kRest, kNear),
            "refused: begins with an instruction that cannot be moved");
}

// e26
TEST_F(RelocateX86_64, CallsAreCallsFromTheTrampoline) {
  EXPECT_EQ(moved(std::string("50 e8 00 20 00 00") + kRest, kNear), "50 e8 00 10 00 00" + back(6, 6));
  std::vector<Boundary> map;
  EXPECT_EQ(moved(std::string("50 e8 00 20 00 00") + kRest, kFar, &map),
            "50 ff 15 02 00 00 00 eb 08 06 20 00 50 00 00 00 00 ff 25 00 00 00 00 06 00 00 50 00 00 00 00");
  ASSERT_EQ(map.size(), 3U);
  EXPECT_EQ(map[2].function_offset, 6U);
  EXPECT_EQ(map[2].trampoline_offset, 17U);
  EXPECT_EQ(moved(std::string("e8 fb ff ff ff") + kRest, kNear), "e8 fb ef ff ff" + back(5, 5))
      << "of the function itself";
}

TEST_F(RelocateX86_64, EveryBoundaryHasItsPlace) {
  std::vector<Boundary> map;
  ASSERT_EQ(moved(std::string("53 74 05 48 89 f8") + kRest, kNear, &map),
            "53 0f 84 01 f0 ff ff 48 89 f8" + back(6, 10));
  const std::vector<std::pair<std::uint32_t, std::uint32_t>> expected = {{0, 0}, {1, 1}, {3, 7}, {6, 10}};
  ASSERT_EQ(map.size(), expected.size());
  for (std::size_t k = 0; k < map.size(); ++k)
    EXPECT_EQ(std::pair(map[k].function_offset, map[k].trampoline_offset), expected[k]);
}

TEST_F(RelocateX86_64, ACopiedLoopRunsInTheTrampoline) {
  EXPECT_EQ(moved("80 3f 00 74 05 48 ff c7 eb f6 c3", kNear, nullptr, true),
            "80 3f 00 0f 84 08 00 00 00 48 ff c7 e9 ef ff ff ff c3" + back(11, 18));
}

TEST_F(RelocateX86_64, LessRoomThanPlannedIsRefused) {
  const Code code(std::string("55 48 89 e5 53") + kRest);
  const EntryPlan plan = X86_64Code::plan(code.function);
  Byte out(plan.trampoline_bytes);
  std::vector<Boundary> map(plan.instructions + 1);
  std::uint32_t size = 0;
  EXPECT_EQ(X86_64Code::relocate(plan, code.function.body, kEntry, std::span(out).first(out.size() - 1), map, size),
            Relocated::no_room);
  EXPECT_EQ(X86_64Code::relocate(plan, code.function.body, kEntry, out, std::span(map).first(map.size() - 1), size),
            Relocated::no_room);
  const Byte other(plan.displaced, 0x06);  // what stood there when it was planned does no more
  EXPECT_EQ(X86_64Code::relocate(plan, {kEntry, other.data(), other.size()}, kEntry, out, map, size),
            Relocated::impossible);
}

TEST_F(RelocateX86_64, AStubReachesEverything) {
  const CodeBytes stub = X86_64Code::stub(kEntry, 0x1122334455667788);
  EXPECT_EQ(to_hex(stub.bytes, stub.size), "ff 25 00 00 00 00 88 77 66 55 44 33 22 11");
}

TEST_F(RelocateX86_64, AJumpReachesTwoGibibytes) {
  const EntryPlan plan = plan_of("55 48 89 e5 53 c3");
  const std::uint64_t end = kEntry + 5, two = std::uint64_t{1} << 31;
  EXPECT_TRUE(X86_64Code::reaches(plan, kEntry, end + two - 1));
  EXPECT_FALSE(X86_64Code::reaches(plan, kEntry, end + two));
  const std::uint64_t high = std::uint64_t{1} << 40;
  EXPECT_TRUE(X86_64Code::reaches(plan, high, high + 5 - two));
  EXPECT_FALSE(X86_64Code::reaches(plan, high, high + 5 - two - 1));
}

}  // namespace
