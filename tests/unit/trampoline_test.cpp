// Trampolines that run: the entry planned, the displaced instructions moved near by, and the result compared with the function's.
// x86-64 only, since they are run.
//
// Shown to fail: the displacement of a moved operand off by one; copy_rules() that stops at the first advance (the exception then
// ends the process)
#if defined(__x86_64__)
#include <dlfcn.h>
#include <execinfo.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/mman.h>

#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "arch/jump_targets.hpp"
#include "arch/native_code.hpp"
#include "elf/call_frames.hpp"

extern "C" {
void __register_frame(void *);
void __deregister_frame(void *);
// Below.
std::uint64_t shunt_test_unwound(std::uint64_t (*callback)(std::uint64_t), std::uint64_t);
extern const char shunt_test_unwound_end[];
std::uint64_t shunt_test_patchable(std::uint64_t);
std::uint64_t shunt_test_hooked(std::uint64_t);
}

namespace {

using namespace shunt::core;
using namespace shunt::core::arch;

/// Pages to write to and then to run.
class Pages {
 public:
  explicit Pages(std::size_t size) : size_(size) {
    bytes_ =
        static_cast<std::uint8_t *>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    EXPECT_NE(static_cast<void *>(bytes_), MAP_FAILED);
  }
  ~Pages() { munmap(bytes_, size_); }
  Pages(const Pages &) = delete;
  Pages &operator=(const Pages &) = delete;
  std::uint8_t *at(std::size_t offset) { return bytes_ + offset; }
  std::uint64_t address(std::size_t offset) { return reinterpret_cast<std::uint64_t>(bytes_) + offset; }
  void seal(std::size_t size) { ASSERT_EQ(mprotect(bytes_, size, PROT_READ | PROT_EXEC), 0); }

 private:
  std::uint8_t *bytes_ = nullptr;
  const std::size_t size_;
};

class TrampolineTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!NativeCode::ready()) GTEST_SKIP() << "libZydis.so.4.0 is not installed";
  }
};

// ---- generated functions

constexpr std::size_t kData = 0x10000, kDataSize = 4096, kMoved = 0x8000, kSlot = 512;

/// Writes a function of a few random instructions, among them every addressing form of e23 to e25. rdi, rsi, rdx, rcx are what it
/// reads, rax what it answers; memory is its own data.
class Generator {
 public:
  Generator(Pages &pages, std::size_t at, std::mt19937 &random) : pages_(pages), begin_(at), at_(at), random_(random) {}

  /// The function's size.
  std::size_t run() {
    helper_ = at_;
    bytes({0x48, 0x8d, 0x44, 0x37, 0x07, 0xc3});  // lea rax, [rdi + rsi + 7]; ret: what calls go to
    begin_ = at_;
    if (pick(3) == 0) bytes({0xf3, 0x0f, 0x1e, 0xfa});
    const bool loops = pick(4) == 0;
    for (int k = 0, count = 1 + pick(5); k < count; ++k) instruction();
    if (loops) {
      // r8d, made small, counts down to the first instruction: a loop at the entry.
      bytes({0x41, 0x83, 0xe0, 0x0f, 0x41, 0xff, 0xc8, 0x0f, 0x8f});
      const std::size_t end = at_ + 4;
      number(static_cast<std::uint32_t>(begin_ - end));
    }
    for (int k = 0; k < 4; ++k) instruction();
    bytes({0xc3});
    return at_ - begin_;
  }
  [[nodiscard]] std::size_t begin() const { return begin_; }

 private:
  int pick(int count) { return std::uniform_int_distribution<int>(0, count - 1)(random_); }
  void bytes(std::initializer_list<int> list) {
    for (const int byte : list) *pages_.at(at_++) = static_cast<std::uint8_t>(byte);
  }
  void number(std::uint32_t value) {
    std::memcpy(pages_.at(at_), &value, 4);
    at_ += 4;
  }
  /// A displacement to the data, with `behind` bytes of the instruction after it.
  void data(std::size_t behind) {
    const std::size_t place = kData + static_cast<std::size_t>(pick(kDataSize / 64)) * 64;
    number(static_cast<std::uint32_t>(place - (at_ + 4 + behind)));
  }
  /// What a jump jumps over: it must not be skipped and met at the same time.
  void skipped(bool is_two) {
    if (is_two)
      bytes({0xff, 0xc0});  // inc eax
    else
      bytes({0x48, 0x83, 0xc0, 0x11});  // add rax, 17
  }

  void instruction() {
    switch (pick(25)) {
      case 0:
        return bytes({0x48, 0x01, 0xf8});  // add rax, rdi
      case 1:
        return bytes({0x31, 0xf0});  // xor eax, esi
      case 2:
        bytes({0x48, 0x03, 0x05});  // add rax, [rip + x]
        return data(0);
      case 3:
        bytes({0x48, 0x31, 0x05});  // xor [rip + x], rax
        return data(0);
      case 4:
        bytes(
            {0x48, 0x8d, 0x15});  // lea rdx, [rip + x]; sub rdx, the same: relative to itself, so the difference counts
        data(0);
        return bytes({0x48, 0x03, 0x02});  // add rax, [rdx]
      case 5:
        bytes({0x80, 0x3d});  // cmp byte [rip + x], imm8; setb al
        data(1);
        return bytes({pick(256), 0x0f, 0x92, 0xc0});
      case 6:
        bytes({0x81, 0x05});  // add dword [rip + x], imm32
        data(4);
        return number(static_cast<std::uint32_t>(random_()));
      case 7:
        bytes({0x66, 0xc7, 0x05});  // mov word [rip + x], imm16
        data(2);
        return bytes({pick(256), pick(256)});
      case 8:
        bytes({0xf3, 0x0f, 0x6f, 0x05});  // movdqu xmm0, [rip + x]; movq rdx, xmm0; add rax, rdx
        data(0);
        return bytes({0x66, 0x48, 0x0f, 0x7e, 0xc2, 0x48, 0x01, 0xd0});
      case 9:
        bytes({0x66, 0x0f, 0x3a, 0x0f, 0x05});  // palignr xmm0, [rip + x], imm8, of aligned data
        data(1);
        return bytes({pick(16), 0x66, 0x48, 0x0f, 0x7e, 0xc2, 0x48, 0x01, 0xd0});
      case 10:
        bytes({0x48, 0x69, 0x15});  // imul rdx, [rip + x], imm32; add rax, rdx
        data(4);
        number(static_cast<std::uint32_t>(random_()));
        return bytes({0x48, 0x01, 0xd0});
      case 11:
        bytes({0xf0, 0x48, 0x0f, 0xc1, 0x05});  // lock xadd [rip + x], rax
        return data(0);
      case 12: {  // jcc rel8
        const bool is_two = pick(2) == 0;
        bytes({0x48, 0x39, 0xf7, 0x70 + pick(16), is_two ? 2 : 4});  // cmp rdi, rsi
        return skipped(is_two);
      }
      case 13:  // jcc rel32
        bytes({0x48, 0x39, 0xd7, 0x0f, 0x80 + pick(16)});
        number(4);
        return skipped(false);
      case 14:  // jmp rel8
        bytes({0xeb, 4});
        return skipped(false);
      case 15:  // jmp rel32
        bytes({0xe9});
        number(2);
        return skipped(true);
      case 16:
      case 17:  // jrcxz, jecxz
        if (pick(2) == 0) bytes({0x67});
        bytes({0xe3, 4});
        return skipped(false);
      case 18:  // loop, loope, loopne, forward
        bytes({0xe0 + pick(3), 2});
        return skipped(true);
      case 19:  // call rel32 of the helper
        bytes({0x50, 0xe8});
        number(static_cast<std::uint32_t>(helper_ - (at_ + 4)));
        return bytes({0x5a, 0x48, 0x01, 0xd0});  // pop rdx; add rax, rdx
      case 20:
        return bytes({0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10, 0xc9});  // push rbp; ...; leave
      case 21:
        return bytes({0x41, 0x57, 0x41, 0x5f});  // push r15; pop r15
      case 22:
        bytes({0xb8});  // mov eax, imm32
        return number(static_cast<std::uint32_t>(random_()));
      case 23:
        return bytes({0x0f, 0x1f, 0x44, 0x00, 0x00});
      default:
        return bytes({0x48, 0xc1, 0xc0, pick(64)});  // rol rax, imm8
    }
  }

  Pages &pages_;
  std::size_t begin_, at_, helper_ = 0;
  std::mt19937 &random_;
};

using Generated = std::uint64_t (*)(std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t);

/// What a call answers and leaves behind in the data.
std::pair<std::uint64_t, std::vector<std::uint8_t>> outcome(Pages &pages, std::uint64_t code,
                                                            const std::vector<std::uint8_t> &data,
                                                            const std::uint64_t (&in)[4]) {
  std::memcpy(pages.at(kData), data.data(), data.size());
  std::uint64_t result;
  std::uint64_t first = in[0], second = in[1], third = in[2], fourth = in[3];
  // rax and xmm0 have no value when a function begins: here they have the same in both.
  asm volatile("mov %%rcx, %%r8; xorl %%eax, %%eax; pxor %%xmm0, %%xmm0; call *%[code]"
               : "=&a"(result), "+D"(first), "+S"(second), "+d"(third), "+c"(fourth)
               : [code] "r"(code)
               : "memory", "cc", "xmm0", "r8", "r9", "r10", "r11");
  return {result, {pages.at(kData), pages.at(kData) + kDataSize}};
}

TEST_F(TrampolineTest, GeneratedFunctionsRunAsBefore) {
  const unsigned seed = std::getenv("SHUNT_SEED") != nullptr
                            ? static_cast<unsigned>(std::stoul(std::getenv("SHUNT_SEED")))
                            : std::random_device{}();
  std::printf("SHUNT_SEED=%u\n", seed);
  std::mt19937 random(seed);
  std::size_t functions = 0, copies = 0, refused = 0;
  for (int round = 0; round < 200; ++round) {
    Pages pages(kData + kDataSize);
    struct Pair {
      std::uint64_t function, trampoline;
    };
    std::vector<Pair> pairs;
    for (std::size_t slot = 0; slot < kMoved / kSlot; ++slot) {
      Generator generator(pages, slot * kSlot, random);
      const std::size_t size = generator.run();
      Function function;
      function.body = {pages.address(generator.begin()), pages.at(generator.begin()), size};
      JumpTargets jumps;
      ASSERT_TRUE(jumps.find<NativeCode>(function.body));
      function.jumps = &jumps;
      const EntryPlan plan = NativeCode::plan(function);
      ++functions;
      if (plan.form == JumpForm::refused) {
        ++refused;
        EXPECT_TRUE(plan.refusal == Refusal::jumps_back || plan.refusal == Refusal::jumped_into)
            << refusal_text(plan.refusal) << " seed " << seed;
        continue;
      }
      copies += plan.copies_body ? 1 : 0;
      ASSERT_LE(plan.trampoline_bytes, kSlot);
      std::vector<Boundary> boundaries(plan.instructions + 1);
      std::uint32_t moved = 0;
      const std::size_t place = kMoved + slot * kSlot;
      ASSERT_EQ(
          NativeCode::relocate(plan, function.body, pages.address(place), {pages.at(place), kSlot}, boundaries, moved),
          Relocated::done)
          << "seed " << seed;
      pairs.push_back({function.body.address, pages.address(place)});
    }
    pages.seal(kData);
    for (const Pair &pair : pairs)
      for (int input = 0; input < 6; ++input) {
        std::vector<std::uint8_t> data(kDataSize);
        for (std::uint8_t &byte : data) byte = static_cast<std::uint8_t>(random());
        std::uint64_t in[4];
        for (std::uint64_t &one : in)
          one = random() % 3 == 0 ? random() % 3 : (std::uint64_t{random()} << 32 | random());
        const auto before = outcome(pages, pair.function, data, in), after = outcome(pages, pair.trampoline, data, in);
        ASSERT_EQ(after.first, before.first) << "seed " << seed << " round " << round;
        ASSERT_EQ(after.second, before.second) << "seed " << seed << " round " << round;
      }
  }
  std::printf("%zu functions, %zu copied as a whole, %zu refused\n", functions, copies, refused);
  EXPECT_LT(refused * 2, functions);
  EXPECT_GT(copies, 0U);
}

// ---- unwinding

/// A trampoline of a function of this program, with its frame.
struct Moved {
  Pages pages{8192};
  EntryPlan plan;
  std::vector<std::uint8_t> frame;
  std::uint32_t size = 0;

  Moved(std::uint64_t begin, std::uint64_t end) {
    Function function;
    function.body = {begin, reinterpret_cast<const std::uint8_t *>(begin), end - begin};
    plan = NativeCode::plan(function);
    EXPECT_EQ(plan.form, JumpForm::whole) << refusal_text(plan.refusal);
    std::vector<Boundary> boundaries(plan.instructions + 1);
    EXPECT_EQ(NativeCode::relocate(plan, function.body, pages.address(0), {pages.at(0), 4096}, boundaries, size),
              Relocated::done);
    pages.seal(4096);
    describe(begin, boundaries);
  }

  void describe(std::uint64_t function, const std::vector<Boundary> &boundaries) {
    Bytes header, image;
    struct Search {
      std::uint64_t address;
      Bytes *header, *image;
    } search = {function, &header, &image};
    dl_iterate_phdr(
        [](dl_phdr_info *info, std::size_t, void *argument) {
          const Search &to = *static_cast<Search *>(argument);
          bool is_it = false;
          Bytes frames;
          for (int k = 0; k < info->dlpi_phnum; ++k) {
            const ElfW(Phdr) &one = info->dlpi_phdr[k];
            const std::uint64_t at = info->dlpi_addr + one.p_vaddr;
            const Bytes bytes = {at, reinterpret_cast<const std::uint8_t *>(at), one.p_memsz};
            if (one.p_type == PT_GNU_EH_FRAME) frames = bytes;
            is_it = is_it || (one.p_type == PT_LOAD && bytes.contains(to.address, 1));
          }
          for (int k = 0; is_it && k < info->dlpi_phnum; ++k) {
            const ElfW(Phdr) &one = info->dlpi_phdr[k];
            const std::uint64_t at = info->dlpi_addr + one.p_vaddr;
            const Bytes bytes = {at, reinterpret_cast<const std::uint8_t *>(at), one.p_memsz};
            if (one.p_type == PT_LOAD && bytes.contains(frames.address, frames.size)) *to.image = bytes;
          }
          if (is_it) *to.header = frames;
          return is_it ? 1 : 0;
        },
        &search);
    CallFrame call_frame;
    ASSERT_TRUE(CallFrames(header, image).find(function, call_frame));
    EXPECT_EQ(call_frame.begin, function);
    frame.resize(trampoline_frame_bound(call_frame));
    const std::size_t written = trampoline_frame(call_frame, function, boundaries, pages.address(0), size, frame);
    ASSERT_GT(written, 0U);
    frame.resize(written);
  }
};

std::uint64_t throws(std::uint64_t value) { throw std::runtime_error("thrown " + std::to_string(value)); }

/// Whether one of the return addresses of this very moment lies in [begin, begin + size), and one beyond it in `caller`.
std::uint64_t traced_from = 0, traced_size = 0;
int frames_beyond = -1;
std::uint64_t traces(std::uint64_t value) {
  void *addresses[64];
  const int count = backtrace(addresses, 64);
  for (int k = 0; k < count; ++k) {
    const auto address = reinterpret_cast<std::uint64_t>(addresses[k]);
    if (address >= traced_from && address - traced_from < traced_size) frames_beyond = count - k - 1;
  }
  return value;
}

using Unwound = std::uint64_t (*)(std::uint64_t (*)(std::uint64_t), std::uint64_t);

TEST_F(TrampolineTest, ExceptionsPassThroughIt) {
  Moved moved(reinterpret_cast<std::uint64_t>(&shunt_test_unwound),
              reinterpret_cast<std::uint64_t>(shunt_test_unwound_end));
  ASSERT_TRUE(moved.plan.has_call);
  const auto trampoline = reinterpret_cast<Unwound>(moved.pages.address(0));
  EXPECT_EQ(trampoline([](std::uint64_t value) { return value * 2; }, 21), 42U + 1);
  __register_frame(moved.frame.data());

  std::string caught;
  volatile std::uint64_t kept = 0x1234;  // in the frame of a caller that must be found again
  try {
    trampoline(throws, 7);
  } catch (const std::runtime_error &error) {
    caught = error.what();
  }
  traced_from = moved.pages.address(0);
  traced_size = moved.size;
  trampoline(traces, 7);
  __deregister_frame(moved.frame.data());

  EXPECT_EQ(caught, "thrown 7");
  EXPECT_EQ(kept, 0x1234U);
  EXPECT_GE(frames_beyond, 3) << "this test, what runs it, main";
}

TEST_F(TrampolineTest, TheUnwinderNeedsTheFrame) {
  Moved moved(reinterpret_cast<std::uint64_t>(&shunt_test_unwound),
              reinterpret_cast<std::uint64_t>(shunt_test_unwound_end));
  const auto trampoline = reinterpret_cast<Unwound>(moved.pages.address(0));
  EXPECT_DEATH(
      {
        try {
          trampoline(throws, 7);
        } catch (const std::runtime_error &) {
        }
      },
      "");
}

// ---- what gcc prepares (e27); clang has no ms_hook_prologue for ELF

#if !defined(__clang__)
Function function_at(const void *begin, std::size_t size, std::size_t before) {
  Function function;
  function.body = {reinterpret_cast<std::uint64_t>(begin), static_cast<const std::uint8_t *>(begin), size};
  function.before = before;
  return function;
}

TEST_F(TrampolineTest, WhatTheCompilerPreparedIsUsed) {
  const EntryPlan patchable = NativeCode::plan(function_at(reinterpret_cast<void *>(&shunt_test_patchable), 7, 5));
  EXPECT_EQ(patchable.form, JumpForm::in_padding) << "-fpatchable-function-entry=7,5";
  const EntryPlan hooked = NativeCode::plan(function_at(reinterpret_cast<void *>(&shunt_test_hooked), 13, 32));
  EXPECT_EQ(hooked.form, JumpForm::in_padding) << "ms_hook_prologue";
  EXPECT_FALSE(hooked.has_inner_boundary);
}
#endif

}  // namespace

// A call among the first bytes: push rbx; call rdi's argument; the rest behind the call.
asm(R"(
  .text
  .globl shunt_test_unwound
  .type shunt_test_unwound, @function
  .balign 16
shunt_test_unwound:
  .cfi_startproc
  push %rbx
  .cfi_def_cfa_offset 16
  .cfi_offset %rbx, -16
  xchg %rdi, %rsi
  call *%rsi
  mov %rax, %rbx
  lea 1(%rbx), %rax
  pop %rbx
  .cfi_def_cfa_offset 8
  ret
  .cfi_endproc
  .globl shunt_test_unwound_end
shunt_test_unwound_end:
  .size shunt_test_unwound, . - shunt_test_unwound
)");

#if !defined(__clang__)
extern "C" {
[[gnu::patchable_function_entry(7, 5), gnu::noinline, gnu::used]] std::uint64_t shunt_test_patchable(
    std::uint64_t value) {
  return value + 1;
}
[[gnu::ms_hook_prologue, gnu::noinline, gnu::used]] std::uint64_t shunt_test_hooked(std::uint64_t value) {
  return value + 1;
}
}
#endif
#endif
