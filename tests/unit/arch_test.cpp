// lib/arch: the tables of every machine, on every machine. The numbers are spelled by <elf.h>, which has them all.
#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "arch/aarch64/reloc.hpp"
#include "arch/generic_name_words.hpp"
#include "arch/native.hpp"
#include "arch/x86_64/reloc.hpp"

namespace {

using namespace shunt::core::arch;

/// All other types up to `highest` are no slot.
template <class Isa>
void expect_kinds(const std::map<std::uint32_t, RelocKind> &slots, std::uint32_t highest) {
  for (std::uint32_t type = 0; type <= highest; ++type) {
    const auto slot = slots.find(type);
    EXPECT_EQ(Isa::kind(type), slot != slots.end() ? slot->second : RelocKind::other) << Isa::kName << " " << type;
  }
  EXPECT_EQ(Isa::kind(0xffffffff), RelocKind::other);
}

TEST(Arch, X86_64) {
  EXPECT_EQ(X86_64::kMachine, EM_X86_64);
  expect_kinds<X86_64>({{R_X86_64_JUMP_SLOT, RelocKind::jump_slot},
                        {R_X86_64_GLOB_DAT, RelocKind::glob_dat},
                        {R_X86_64_64, RelocKind::absolute}},
                       2000);
}

TEST(Arch, Aarch64) {
  EXPECT_EQ(Aarch64::kMachine, EM_AARCH64);
  expect_kinds<Aarch64>({{R_AARCH64_JUMP_SLOT, RelocKind::jump_slot},
                         {R_AARCH64_GLOB_DAT, RelocKind::glob_dat},
                         {R_AARCH64_ABS64, RelocKind::absolute}},
                        2000);
}

TEST(Arch, EveryKindHasAName) {
  EXPECT_STREQ(kind_name(RelocKind::jump_slot), "jump_slot");
  EXPECT_STREQ(kind_name(RelocKind::glob_dat), "glob_dat");
  EXPECT_STREQ(kind_name(RelocKind::absolute), "absolute");
  EXPECT_STREQ(kind_name(RelocKind::other), "other");
}

TEST(Arch, TheNativeResolverIsCalled) {
  constexpr std::uintptr_t kAnswer = 4711;
  const auto resolver = +[]() -> std::uintptr_t { return kAnswer; };  // one that takes arguments may ignore them

  EXPECT_EQ(Native::run_resolver(reinterpret_cast<std::uintptr_t>(resolver)), kAnswer);
}

// Shown to fail: without the mask in name_words.hpp; without `alive` in generic_name_words.hpp.
TEST(Arch, NameWordsAreTheNameAndZeros) {
  for (std::size_t size = 0; size <= 40; ++size)
    for (const char filler : {'\0', 'x', '\x80', '\x01'}) {
      char text[80];
      std::memset(text, filler, sizeof text);
      for (std::size_t k = 0; k < size; ++k) text[k] = static_cast<char>(k + 0x70);  // some above 127
      text[size] = '\0';
      char expected[32] = {};
      std::memcpy(expected, text, std::min<std::size_t>(size, 32));
      std::uint64_t native[4], generic[4];

      const bool native_is_over = name_words(text, native), generic_is_over = generic_name_words(text, generic);

      EXPECT_EQ(native_is_over, size < 32) << size;
      EXPECT_EQ(generic_is_over, size < 32) << size;
      EXPECT_EQ(std::memcmp(generic, native, sizeof native), 0) << size;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
      EXPECT_EQ(std::memcmp(native, expected, sizeof expected), 0) << size;
#endif
    }
}

}  // namespace
