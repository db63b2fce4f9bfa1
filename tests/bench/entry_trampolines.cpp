// Every function of a library that can be redirected jumps to its own trampoline, all at once, so nothing may change: the library's
// own work (compress, hash, sign, SQL) gives the same results as before. And each trampoline is compared, instruction by
// instruction, with what a second decoder, capstone, reads in the function.
#include <capstone/capstone.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "arch/native_code.hpp"
#include "library_functions.hpp"
#include "memory/near_memory.hpp"
#include "memory/text_flip.hpp"

namespace {

using namespace shunt::core;
using namespace shunt::core::arch;

template <class Signature>
Signature *function_of(const Library &library, const char *name) {
  auto *function = reinterpret_cast<Signature *>(dlsym(library.handle(), name));
  EXPECT_NE(function, nullptr) << name;
  return function;
}

/// A trampoline that is to be written, and what was planned.
struct Redirect {
  Function function;
  EntryPlan plan;
  std::uint64_t trampoline = 0;
  std::vector<std::uint8_t> code;
  std::vector<Boundary> boundaries;
};

/// Plans every function, and gives each a place and its bytes.
std::vector<Redirect> redirects_of(const Library &library, NearMemory &memory) {
  std::vector<Redirect> redirects;
  std::uint64_t used_to = 0;  // a byte belongs to one redirect only
  for (std::size_t k = 0; k < library.functions().size(); ++k) {
    Redirect one;
    one.function = library.function(k);
    const std::uint64_t entry = one.function.body.address;
    if (entry < used_to) continue;
    one.function.before = std::min<std::uint64_t>(one.function.before, entry - used_to);
    one.plan = NativeCode::plan(one.function);
    if (one.plan.form == JumpForm::refused) continue;
    Problem problem;
    one.trampoline = memory.allocate(entry, NativeCode::kReach, one.plan.trampoline_bytes, problem);
    EXPECT_NE(one.trampoline, 0U) << problem.message;
    one.code.resize(one.plan.trampoline_bytes);
    one.boundaries.resize(one.plan.instructions + 1);
    std::uint32_t size = 0;
    EXPECT_EQ(NativeCode::relocate(one.plan, one.function.body, one.trampoline, one.code, one.boundaries, size),
              Relocated::done);
    one.code.resize(size);
    used_to = entry + std::max<std::uint64_t>(one.plan.displaced, one.plan.site + one.plan.changed);
    redirects.push_back(std::move(one));
  }
  return redirects;
}

/// Everything that is written, sorted by address.
class Writes {
 public:
  void add(std::uint64_t address, const std::uint8_t *bytes, std::size_t size) {
    const auto *now = reinterpret_cast<const std::uint8_t *>(address);
    writes_[address] = {{now, now + size}, {bytes, bytes + size}};
  }
  [[nodiscard]] std::vector<TextChange> changes(bool back) const {
    std::vector<TextChange> all;
    for (const auto &[address, one] : writes_)
      all.push_back({address, one.before.size(), (back ? one.after : one.before).data(),
                     (back ? one.before : one.after).data(), "library", "function"});
    return all;
  }

 private:
  struct Write {
    std::vector<std::uint8_t> before, after;
  };
  std::map<std::uint64_t, Write> writes_;
};

/// `work` before, while every function takes its trampoline, and after.
void expect_same(const char *name, const std::function<std::string(const Library &)> &work) {
  if (!NativeCode::ready()) GTEST_SKIP() << "the decoder's library is not installed";
  Library library;
  ASSERT_TRUE(library.load(name));
  const std::string before = work(library);
  ASSERT_FALSE(before.empty());
  NearMemory memory(NativeCode::kTrap);
  const std::vector<Redirect> redirects = redirects_of(library, memory);
  Writes trampolines, entries;
  for (const Redirect &one : redirects) {
    trampolines.add(one.trampoline, one.code.data(), one.code.size());
    const EntryBytes bytes = NativeCode::entry_bytes(one.plan, one.function.body.address, one.trampoline);
    if (bytes.padding.size > 0) entries.add(bytes.padding.address, bytes.padding.bytes, bytes.padding.size);
    entries.add(bytes.entry.address, bytes.entry.bytes, bytes.entry.size);
  }
  TextFlip flip;
  Problem problem;
  ASSERT_TRUE(flip.flip(trampolines.changes(false), problem)) << problem.message;
  ASSERT_TRUE(flip.flip(entries.changes(false), problem)) << problem.message;
  EXPECT_GT(flip.pages_away(), 0U);

  const std::string during = work(library);

  ASSERT_TRUE(flip.flip(entries.changes(true), problem)) << problem.message;
  EXPECT_EQ(flip.pages_away(), 0U);
  EXPECT_EQ(during, before);
  EXPECT_EQ(work(library), before);
  std::printf("%zu of %zu functions took their trampolines\n", redirects.size(), library.functions().size());
}

std::string sample(std::size_t size) {
  std::string text;
  std::uint32_t state = 1;
  while (text.size() < size) {
    state = state * 1664525 + 1013904223;
    text += std::string(state >> 29, static_cast<char>('a' + (state >> 24) % 26));
  }
  return text;
}

TEST(EntryTrampolines, ZlibCompresses) {
  expect_same("libz.so.1", [](const Library &library) {
    auto *compress2 = function_of<int(char *, unsigned long *, const char *, unsigned long, int)>(library, "compress2");
    auto *uncompress = function_of<int(char *, unsigned long *, const char *, unsigned long)>(library, "uncompress");
    auto *crc32 = function_of<unsigned long(unsigned long, const char *, unsigned)>(library, "crc32");
    const std::string text = sample(300'000);
    std::string result;
    for (const int level : {1, 6, 9}) {
      std::string packed(text.size(), '\0'), unpacked(text.size(), '\0');
      unsigned long packed_size = packed.size(), unpacked_size = unpacked.size();
      if (compress2(packed.data(), &packed_size, text.data(), text.size(), level) != 0) return std::string("failed");
      if (uncompress(unpacked.data(), &unpacked_size, packed.data(), packed_size) != 0) return std::string("failed");
      result += packed.substr(0, packed_size) +
                std::to_string(crc32(0, unpacked.data(), static_cast<unsigned>(unpacked_size)));
      if (unpacked != text) return std::string("not the same text");
    }
    return result;
  });
}

TEST(EntryTrampolines, CryptoHashesAndSigns) {
  expect_same("libcrypto.so.3", [](const Library &library) {
    using Pointer = void *;
    auto *digest_by_name = function_of<const void *(const char *)>(library, "EVP_get_digestbyname");
    auto *digest = function_of<int(const void *, std::size_t, unsigned char *, unsigned *, const void *, Pointer)>(
        library, "EVP_Digest");
    const std::string text = sample(100'000);
    std::string result;
    for (const char *name : {"MD5", "SHA1", "SHA256", "SHA512", "SHA3-256", "BLAKE2b512"}) {
      unsigned char out[64];
      unsigned size = 0;
      if (digest(text.data(), text.size(), out, &size, digest_by_name(name), nullptr) != 1)
        return std::string("failed");
      result.append(reinterpret_cast<char *>(out), size);
    }
    // Signs with a fresh key, and checks: the signature is another each time, that it is good is the result.
    auto *generate = function_of<Pointer(Pointer, const char *, const char *, ...)>(library, "EVP_PKEY_Q_keygen");
    auto *context_new = function_of<Pointer()>(library, "EVP_MD_CTX_new");
    auto *sign_init =
        function_of<int(Pointer, Pointer *, const void *, Pointer, Pointer)>(library, "EVP_DigestSignInit");
    auto *sign =
        function_of<int(Pointer, unsigned char *, std::size_t *, const void *, std::size_t)>(library, "EVP_DigestSign");
    auto *verify_init =
        function_of<int(Pointer, Pointer *, const void *, Pointer, Pointer)>(library, "EVP_DigestVerifyInit");
    auto *verify = function_of<int(Pointer, const unsigned char *, std::size_t, const void *, std::size_t)>(
        library, "EVP_DigestVerify");
    auto *context_free = function_of<void(Pointer)>(library, "EVP_MD_CTX_free");
    auto *key_free = function_of<void(Pointer)>(library, "EVP_PKEY_free");
    for (const bool is_rsa : {true, false}) {
      Pointer key =
          is_rsa ? generate(nullptr, nullptr, "RSA", std::size_t{2048}) : generate(nullptr, nullptr, "EC", "P-256");
      Pointer signing = context_new(), verifying = context_new();
      unsigned char signature[512];
      std::size_t size = sizeof signature;
      const bool good = sign_init(signing, nullptr, digest_by_name("SHA256"), nullptr, key) == 1 &&
                        sign(signing, signature, &size, text.data(), text.size()) == 1 &&
                        verify_init(verifying, nullptr, digest_by_name("SHA256"), nullptr, key) == 1 &&
                        verify(verifying, signature, size, text.data(), text.size()) == 1;
      result += good ? "good" : "bad";
      context_free(signing);
      context_free(verifying);
      key_free(key);
    }
    return result;
  });
}

TEST(EntryTrampolines, SqliteAnswers) {
  expect_same("libsqlite3.so.0", [](const Library &library) {
    struct Database;
    auto *open = function_of<int(const char *, Database **)>(library, "sqlite3_open");
    auto *close = function_of<int(Database *)>(library, "sqlite3_close");
    using Row = int(void *, int, char **, char **);
    auto *execute = function_of<int(Database *, const char *, Row *, void *, char **)>(library, "sqlite3_exec");
    Database *database = nullptr;
    if (open(":memory:", &database) != 0) return std::string("failed");
    std::string result;
    const int answer = execute(
        database,
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT, c REAL); CREATE INDEX i ON t(b);"
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 5000)"
        "INSERT INTO t SELECT x, hex(x * 7919 % 1000), x * 1.5 FROM n;"
        "SELECT b, count(*), sum(c), group_concat(a) FROM t WHERE b LIKE '3%' GROUP BY b ORDER BY b DESC LIMIT 50;"
        "UPDATE t SET c = c + length(b) WHERE a % 3 = 0; DELETE FROM t WHERE b < '35';"
        "SELECT avg(c), max(b), min(a), printf('%08.3f', total(c)), date('2020-01-01', '+40 days') FROM t;"
        "SELECT json_extract('{\"a\":[1,2,{\"b\":3}]}', '$.a[2].b'); EXPLAIN SELECT * FROM t JOIN t u USING (b); "
        "VACUUM;",
        [](void *to, int count, char **values, char **) {
          for (int k = 0; k < count; ++k)
            *static_cast<std::string *>(to) += std::string(values[k] ? values[k] : "-") + "|";
          return 0;
        },
        &result, nullptr);
    close(database);
    return result + std::to_string(answer);
  });
}

// ---- the second decoder

class Capstone {
 public:
  Capstone() {
    EXPECT_EQ(cs_open(CS_ARCH_X86, CS_MODE_64, &handle_), CS_ERR_OK);
    cs_option(handle_, CS_OPT_DETAIL, CS_OPT_ON);
    instruction_ = cs_malloc(handle_);
  }
  ~Capstone() {
    cs_free(instruction_, 1);
    cs_close(&handle_);
  }
  Capstone(const Capstone &) = delete;
  Capstone &operator=(const Capstone &) = delete;

  struct Seen {
    std::size_t size = 0;
    std::string name = {};
    bool jumps = false;        // to `target`
    std::uint64_t target = 0;  // or names memory there
    std::string others = {};   // the bytes without the displacement
  };
  bool read(const std::uint8_t *code, std::size_t size, std::uint64_t address, Seen &seen) {
    const std::uint8_t *const begin = code;
    if (!cs_disasm_iter(handle_, &code, &size, &address, instruction_)) return false;
    const cs_x86 &x86 = instruction_->detail->x86;
    seen = {instruction_->size, instruction_->mnemonic};
    std::string bytes(reinterpret_cast<const char *>(begin), seen.size);
    for (int k = 0; k < x86.op_count; ++k) {
      const cs_x86_op &operand = x86.operands[k];
      if (operand.type == X86_OP_MEM && operand.mem.base == X86_REG_RIP) {
        seen.target = address + static_cast<std::uint64_t>(operand.mem.disp);
        bytes.replace(x86.encoding.disp_offset, 4, "....");
      }
      if (operand.type == X86_OP_IMM && is_branch()) {
        seen.jumps = true;
        seen.target = static_cast<std::uint64_t>(operand.imm);
      }
    }
    seen.others = bytes;
    return true;
  }

 private:
  [[nodiscard]] bool is_branch() const {
    const cs_detail &detail = *instruction_->detail;
    for (int k = 0; k < detail.groups_count; ++k)
      if (detail.groups[k] == X86_GRP_BRANCH_RELATIVE) return true;
    return false;
  }
  csh handle_ = 0;
  cs_insn *instruction_ = nullptr;
};

/// Where a displaced instruction that leads to `target` must lead in the trampoline.
std::uint64_t place_of(const Redirect &one, std::uint64_t target, bool is_call) {
  const std::uint64_t offset = target - one.function.body.address;
  if (is_call || offset >= one.plan.displaced) return target;
  for (const Boundary &boundary : one.boundaries)
    if (boundary.function_offset == offset) return one.trampoline + boundary.trampoline_offset;
  return 0;
}

void compare(Capstone &capstone, const Redirect &one) {
  for (std::size_t k = 0; k + 1 < one.boundaries.size(); ++k) {
    const Boundary &from = one.boundaries[k], &next = one.boundaries[k + 1];
    Capstone::Seen before, after;
    const std::uint64_t entry = one.function.body.address, place = one.trampoline + from.trampoline_offset;
    const std::uint8_t *moved = one.code.data() + from.trampoline_offset;
    ASSERT_TRUE(capstone.read(one.function.body.data + from.function_offset, 15, entry + from.function_offset, before));
    ASSERT_EQ(before.size, next.function_offset - from.function_offset) << std::hex << entry;
    ASSERT_TRUE(capstone.read(moved, next.trampoline_offset - from.trampoline_offset, place, after));
    ASSERT_EQ(after.name, before.name) << std::hex << entry;
    if (!before.jumps) {
      ASSERT_EQ(after.others, before.others) << std::hex << entry;
      ASSERT_EQ(after.target, before.target) << std::hex << entry;
      ASSERT_EQ(after.size, before.size);
      continue;
    }
    const std::uint64_t expected = place_of(one, before.target, before.name == "call");
    if (before.size == 2 && (moved[0] & 0xfc) == 0xe0) {  // loop: over a jump of two bytes to the long one
      ASSERT_EQ(after.target, place + 4);
      ASSERT_TRUE(capstone.read(moved + 4, 5, place + 4, after));
    }
    ASSERT_EQ(after.target, expected) << before.name << std::hex << " " << entry;
  }
  const Boundary &last = one.boundaries.back();
  Capstone::Seen back;
  ASSERT_TRUE(
      capstone.read(one.code.data() + last.trampoline_offset, 5, one.trampoline + last.trampoline_offset, back));
  ASSERT_EQ(back.name, "jmp");
  ASSERT_EQ(back.target, one.function.body.address + last.function_offset);
}

TEST(EntryTrampolines, AnotherDecoderReadsTheSame) {
  if (!NativeCode::ready()) GTEST_SKIP() << "the decoder's library is not installed";
  Capstone capstone;
  std::size_t compared = 0;
  for (const char *name : {"libz.so.1", "libcrypto.so.3", "libstdc++.so.6", "libsqlite3.so.0", "libc.so.6"}) {
    Library library;
    ASSERT_TRUE(library.load(name));
    NearMemory memory(NativeCode::kTrap);
    for (const Redirect &one : redirects_of(library, memory)) {
      compare(capstone, one);
      if (HasFatalFailure()) return;
      ++compared;
    }
  }
  std::printf("%zu trampolines compared\n", compared);
  EXPECT_GT(compared, 10000U);
}

}  // namespace
