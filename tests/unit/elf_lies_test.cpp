// Images that lie: a Problem, or nothing is found; never a fault and never an endless loop. Behind each image lies a page
// that cannot be read, so one byte too far is seen without a sanitizer as well.
//
// Shown to fail (each guard taken out, the test seen to fail, the guard put back):
//   EveryContradiction…  place() without the wrap-around; read_dynamic() and set_table() without the NUL, the alignment, the size
//   EveryWord…           Image::at() without its end; string() without strings_size_; build_id() without the check of `text_at +`;
//                        the size of the version table left out of symbol_limit_
//   AChainThat…          `steps < chains`
//   ABucketBeyond…       `index < limit` in for_each_candidate()
//   …DoNotMultiply       `left > 0` in needed_version(): no end in sight
//   FileImage…           read() without the limits of p_filesz, p_memsz, e_phnum, the file's size; read_at() that takes less
//   MemoryThat…          readable_end() without `address < end`
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdlib>
#include <random>

#include "ask_everything.hpp"
#include "base/fd.hpp"
#include "elf/file_image.hpp"
#include "loaded.hpp"

namespace {

using shunt::core::Code;
using shunt::core::Fd;
using shunt::core::FileImage;
using shunt::core::Image;
using shunt::core::Problem;
using shunt::core::SymbolName;
using unit::Elf;
using unit::ElfSpec;
using unit::ElfWriter;
using unit::In;
using unit::Loaded;

/// An image with a table of every kind.
Elf honest(bool gnu = true) {
  return ElfWriter::write({
      .symbols = {{.name = "imported", .version = "N1"},
                  {.name = "also_imported", .version = "N2"},
                  {.name = "both", .is_defined = true, .version = "V1", .is_hidden = true},
                  {.name = "both", .is_defined = true, .version = "V2"},
                  {.name = "another", .is_defined = true},
                  {.name = "last", .is_defined = true, .version = "V2"}},
      .relocs = {{0, In::jmprel, 7}, {1, In::rela, 6}, {0, In::rela, 1, 8}, {1, In::rel, 1}},
      .defines = {"V1", "V2"},
      .needs = {"N1", "N2"},
      .gnu_hash = gnu,
      .sysv_hash = !gnu,
      .relr = true,
  });
}

/// What the parser says of the image, "" when it believes it; then it is asked everything.
std::string verdict(const Elf &elf) {
  Loaded loaded(elf);
  Problem problem;
  const Image image = loaded.parse(problem);
  if (!problem) {
    unit::ask_everything(image);
    return "";
  }
  EXPECT_EQ(problem.code, Code::image_malformed);
  EXPECT_EQ(image.high(), 0U) << "an image with a problem is empty";
  return problem.message;
}

/// For each value a field could be given to break what reads it.
std::vector<std::uint64_t> extremes(const Elf &elf) {
  const std::uint64_t size = elf.bytes.size();
  std::vector<std::uint64_t> values = {0,          1,          2,          3,         7,           8,
                                       0x7fff,     0x8000,     0xffff,     size - 24, size - 8,    size - 1,
                                       size,       size + 1,   0x7fffffff, 1U << 31,  0xfffffff0U, 0xffffffffU,
                                       1ULL << 32, 1ULL << 63, INT64_MAX,  ~0ULL,     ~0ULL - 7,   ~0ULL - size};
  return values;
}

TEST(Lies, TheHonestImageIsBelieved) {
  for (const bool gnu : {true, false}) EXPECT_EQ(verdict(honest(gnu)), "");
}

TEST(Lies, EveryContradictionIsNamed) {
  const struct {
    const char *said;
    void (*lie)(Elf &);
  } lies[] = {
      {"no PT_LOAD",
       [](Elf &e) {
         for (Elf64_Phdr &one : e.headers())
           if (one.p_type == PT_LOAD) one.p_type = PT_NULL;
       }},
      {"wraps around", [](Elf &e) { e.segment(PT_LOAD, 2).p_memsz = ~0ULL; }},
      {"PT_DYNAMIC reaches", [](Elf &e) { e.segment(PT_DYNAMIC).p_memsz += 4096; }},
      {"PT_DYNAMIC reaches", [](Elf &e) { e.segment(PT_DYNAMIC).p_vaddr += 4; }},
      {"PT_DYNAMIC reaches", [](Elf &e) { e.segment(PT_LOAD, 2).p_flags = PF_W; }},
      {"string table reaches", [](Elf &e) { e.dynamic(DT_STRSZ) = 1 << 20; }},
      {"string table reaches", [](Elf &e) { e.dynamic(DT_STRSZ) = ~0ULL; }},
      {"string table reaches", [](Elf &e) { e.dynamic(DT_STRTAB) = 1 << 20; }},
      {"does not end with a NUL", [](Elf &e) { e.dynamic(DT_STRSZ) -= 1; }},
      {"symbol table lies outside", [](Elf &e) { e.dynamic(DT_SYMTAB) = 1 << 20; }},
      {"symbol table lies outside", [](Elf &e) { e.dynamic(DT_SYMTAB) += 4; }},
      {"DT_SYMENT", [](Elf &e) { e.dynamic(DT_SYMENT) = 16; }},
      {"DT_RELAENT", [](Elf &e) { e.dynamic(DT_RELAENT) = 16; }},
      {"DT_RELENT", [](Elf &e) { e.dynamic(DT_RELENT) = 24; }},
      {"DT_PLTREL is neither", [](Elf &e) { e.dynamic(DT_PLTREL) = 0; }},
      {"relocation table has an impossible size", [](Elf &e) { e.dynamic(DT_RELASZ) += 1; }},
      {"relocation table has an impossible size", [](Elf &e) { e.dynamic(DT_RELSZ) = 8; }},
      {"relocation table has an impossible size", [](Elf &e) { e.dynamic(DT_PLTRELSZ) = 24ULL << 30; }},
      {"relocation table reaches", [](Elf &e) { e.dynamic(DT_RELASZ) = 24 << 20; }},
      {"relocation table reaches", [](Elf &e) { e.dynamic(DT_REL) += 4; }},
      {"relocation table reaches", [](Elf &e) { e.dynamic(DT_JMPREL) = e.bytes.size() - 8; }},
      {"hash table lies outside", [](Elf &e) { e.dynamic(DT_GNU_HASH) = e.bytes.size() - 8; }},
      {"version table lies outside", [](Elf &e) { e.dynamic(DT_VERSYM) = 1 << 20; }},
      {"version table lies outside", [](Elf &e) { e.dynamic(DT_VERSYM) += 1; }},
  };
  for (const auto &[said, lie] : lies) {
    Elf elf = honest();
    lie(elf);
    EXPECT_NE(verdict(elf).find(said), std::string::npos) << said << " was said as: " << verdict(elf);
  }
}

TEST(Lies, EveryWordOfTheImageMayBeAnything) {
  for (const bool gnu : {true, false}) {
    const Elf good = honest(gnu);
    const std::size_t first = sizeof(Elf64_Ehdr);
    for (const std::size_t width : {sizeof(std::uint64_t), sizeof(std::uint32_t), sizeof(std::uint16_t)})
      for (std::size_t offset = first; offset + width <= good.bytes.size(); offset += width)
        for (const std::uint64_t value : extremes(good)) {
          if (width < 8 && (value >> (8 * width)) != 0) continue;
          Elf lying = good;
          std::memcpy(lying.bytes.data() + offset, &value, width);
          // A segment that claims memory behind the image is the one lie that nobody could see through: the dynamic
          // linker maps what the headers say. FileImage, which gives them that memory, is tested below.
          bool is_placed = true;
          for (const Elf64_Phdr &one : lying.headers())
            if (one.p_type == PT_LOAD &&
                (one.p_vaddr > good.bytes.size() || one.p_memsz > good.bytes.size() - one.p_vaddr))
              is_placed = false;
          if (is_placed) verdict(lying);
        }
  }
}

TEST(Lies, AChainThatGoesInACircleEnds) {
  Elf elf = honest(false);
  auto *header = &elf.at<std::uint32_t>(elf.dynamic(DT_HASH));
  const std::uint32_t buckets = header[0], symbols = header[1];
  for (std::uint32_t k = 0; k < buckets; ++k) header[2 + k] = 1;
  for (std::uint32_t k = 1; k < symbols; ++k) header[2 + buckets + k] = k + 1 < symbols ? k + 1 : 1;

  EXPECT_EQ(verdict(elf), "");
}

TEST(Lies, AGnuChainWithoutEndEnds) {
  Elf elf = honest();
  const std::uint64_t table = elf.dynamic(DT_GNU_HASH);
  const auto *header = &elf.at<std::uint32_t>(table);
  auto *chains = &elf.at<std::uint32_t>(table + 16 + header[2] * 8 + header[0] * 4);
  for (int k = 0; k < 4; ++k) chains[k] &= ~1U;

  EXPECT_EQ(verdict(elf), "");
}

TEST(Lies, ABucketBeyondTheSymbolsIsEmpty) {
  Elf elf = honest();
  auto *header = &elf.at<std::uint32_t>(elf.dynamic(DT_GNU_HASH));
  auto *buckets = header + 4 + header[2] * 2, *chains = buckets + header[0];
  header[1] = 1U << 28;  // the first symbol of the chains: so the chains themselves are where they were
  for (std::uint32_t k = 0; k < header[0]; ++k) buckets[k] = 1U << 28;
  for (int k = 0; k < 4; ++k) chains[k] = SymbolName("another").gnu_hash;

  EXPECT_EQ(verdict(elf), "");
}

TEST(Lies, ABloomFilterOfAnySizeFindsNothing) {
  for (const std::uint32_t words : {0U, 3U, 1U << 30, 0xffffffffU}) {
    Elf elf = honest();
    elf.at<std::uint32_t>(elf.dynamic(DT_GNU_HASH), 2) = words;
    Loaded loaded(std::move(elf));
    Problem problem;
    const Image image = loaded.parse(problem);

    EXPECT_EQ(find_definition(image, SymbolName("another"), nullptr), nullptr) << words;
  }
}

TEST(Lies, VersionListsThatPointAnywhereEnd) {
  for (const std::uint32_t next : {1U, 2U, 4U, 8U, 16U, 0xfffffff0U, 0xffffffffU})
    for (const std::uint64_t count : {std::uint64_t{1}, ~std::uint64_t{0}}) {
      Elf elf = honest();
      auto &need = elf.at<Elf64_Verneed>(elf.dynamic(DT_VERNEED));
      need.vn_next = next;
      need.vn_cnt = 0xffff;
      elf.at<Elf64_Vernaux>(elf.dynamic(DT_VERNEED) + need.vn_aux).vna_next = next;
      elf.at<Elf64_Verdef>(elf.dynamic(DT_VERDEF)).vd_next = next;
      elf.dynamic(DT_VERNEEDNUM) = elf.dynamic(DT_VERDEFNUM) = count;
      for (std::uint32_t k = 0; k < 7; ++k) elf.at<Elf64_Half>(elf.dynamic(DT_VERSYM), k) = 0x7777;

      EXPECT_EQ(verdict(elf), "");
    }
}

TEST(Lies, VersionListsThatOverlapDoNotMultiply) {
  // Every 16 bytes are at once an object that is needed, with 65535 versions, and a version of all objects before it.
  Elf elf = honest();
  const std::uint64_t list = elf.bytes.size(), entries = 1 << 20;
  elf.bytes.resize(list + entries * 16);
  for (std::uint64_t k = 0; k < entries; ++k) elf.at<Elf64_Verneed>(list, k) = {1, 0xffff, 0, 16, 16};
  elf.segment(PT_LOAD, 2).p_memsz += entries * 16;
  elf.segment(PT_LOAD, 2).p_filesz += entries * 16;
  elf.dynamic(DT_VERNEED) = list;
  elf.dynamic(DT_VERNEEDNUM) = 0xffffffff;
  elf.at<Elf64_Half>(elf.dynamic(DT_VERSYM), elf.symbol_index[0]) = 0x7777;
  Loaded loaded(elf);
  Problem problem;
  const Image image = loaded.parse(problem);

  EXPECT_EQ(needed_version(image, elf.symbol_index[0]), nullptr);  // 69 thousand million steps otherwise
}

TEST(Lies, AStringOutsideTheTableIsEmpty) {
  Elf elf = honest();
  elf.dynamic(DT_SONAME) = ~0ULL;
  elf.dynamic(DT_NEEDED) = elf.dynamic(DT_STRSZ);
  elf.symbol(0).st_name = 0xffffffff;
  Loaded loaded(elf);
  Problem problem;
  const Image image = loaded.parse(problem);

  EXPECT_STREQ(image.soname(), "");
  EXPECT_STREQ(image.needed(0), "");
  EXPECT_STREQ(image.symbol_name(elf.symbol_index[0]), "");
}

// ---- files

Fd file_of(std::span<const std::uint8_t> bytes) {
  Fd file(memfd_create("elf", MFD_CLOEXEC));
  EXPECT_EQ(write(file.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  return file;
}

TEST(FileImage, ReadsWhatTheWriterWrote) {
  const Elf elf = honest();
  const Fd file = file_of(elf.bytes);

  const auto read = FileImage::read(file.get(), "written.so");

  ASSERT_TRUE(read) << read.error().message;
  EXPECT_STREQ(read->image().soname(), "libwritten.so");
  EXPECT_EQ(read->image().relocation_count(), 4U);
  EXPECT_NE(find_definition(read->image(), SymbolName("both"), "V2"), nullptr);
}

TEST(FileImage, WhatIsNotASharedLibraryIsRefusedWithTheReason) {
  const struct {
    Code code;
    const char *said;
    void (*lie)(Elf &);
  } lies[] = {
      {Code::patch_malformed, "too short", [](Elf &e) { e.bytes.resize(63); }},
      {Code::patch_malformed, "not an ELF file", [](Elf &e) { e.header().e_ident[EI_MAG0] = 'M'; }},
      {Code::patch_architecture, "ELF class 1", [](Elf &e) { e.header().e_ident[EI_CLASS] = ELFCLASS32; }},
      {Code::patch_architecture, "another architecture", [](Elf &e) { e.header().e_ident[EI_DATA] = ELFDATA2MSB; }},
      {Code::patch_architecture, "machine 8", [](Elf &e) { e.header().e_machine = EM_MIPS; }},
      {Code::patch_malformed, "-shared", [](Elf &e) { e.header().e_type = ET_REL; }},
      {Code::patch_malformed, "impossible size or number", [](Elf &e) { e.header().e_phentsize = 32; }},
      {Code::patch_malformed, "impossible size or number", [](Elf &e) { e.header().e_phnum = 0; }},
      {Code::patch_malformed, "impossible size or number", [](Elf &e) { e.header().e_phnum = 0xffff; }},
      {Code::patch_malformed, "headers lie outside", [](Elf &e) { e.header().e_phoff = e.bytes.size() - 8; }},
      {Code::patch_malformed, "headers lie outside", [](Elf &e) { e.header().e_phoff = ~0ULL - 7; }},
      {Code::patch_malformed, "truncated", [](Elf &e) { e.bytes.resize(e.bytes.size() - 1); }},
      {Code::patch_malformed, "reaches outside the file", [](Elf &e) { e.segment(PT_LOAD).p_offset = ~0ULL; }},
      {Code::patch_malformed, "reaches outside the file", [](Elf &e) { e.segment(PT_LOAD).p_memsz = 0; }},
      {Code::patch_malformed, "larger than 1 GiB", [](Elf &e) { e.segment(PT_LOAD, 2).p_memsz = 1ULL << 40; }},
      {Code::patch_malformed, "larger than 1 GiB", [](Elf &e) { e.segment(PT_LOAD, 2).p_vaddr = ~0ULL - 4095; }},
      {Code::patch_malformed, "no PT_LOAD",
       [](Elf &e) {
         for (Elf64_Phdr &one : e.headers()) one.p_type = PT_NULL;
       }},
      {Code::patch_malformed, "string table", [](Elf &e) { e.dynamic(DT_STRSZ) = 1 << 20; }},
  };
  for (const auto &[code, said, lie] : lies) {
    Elf elf = honest();
    lie(elf);
    const Fd file = file_of(elf.bytes);

    const auto read = FileImage::read(file.get(), "lying.so");

    ASSERT_FALSE(read) << said;
    EXPECT_EQ(read.error().code, code) << read.error().message;
    EXPECT_NE(read.error().message.find(said), std::string::npos) << said << " was said as: " << read.error().message;
    EXPECT_NE(read.error().message.find("lying.so"), std::string::npos);
  }
}

TEST(FileImage, MemoryThatTheFileDoesNotFillHoldsNoTable) {
  // Else a file of 2 KB could claim a table of 40 million symbols, and every look-up would go through them.
  const Elf good = honest();
  for (const std::int64_t tag : {DT_SYMTAB, DT_VERSYM, DT_RELA, DT_GNU_HASH}) {
    Elf elf = good;
    elf.segment(PT_LOAD, 2).p_memsz = 1 << 29;
    elf.dynamic(tag) = elf.segment(PT_LOAD, 2).p_vaddr + elf.segment(PT_LOAD, 2).p_filesz + 4096;
    const Fd file = file_of(elf.bytes);

    EXPECT_FALSE(FileImage::read(file.get(), "zeros.so")) << tag;
  }
  Elf elf = good;
  elf.segment(PT_LOAD, 2).p_memsz = 1 << 29;
  elf.dynamic(DT_SYMTAB) = elf.slots;
  const Fd file = file_of(elf.bytes);
  const auto read = FileImage::read(file.get(), "zeros.so");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_LT(read->image().symbol_limit(), elf.bytes.size());
}

TEST(FileImage, WhatCannotBeReadSaysWhy) {
  const auto read = FileImage::read(-1, "closed.so");

  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Code::patch_unreadable);
  EXPECT_EQ(read.error().sys_errno, EBADF);
  EXPECT_NE(read.error().message.find("EBADF"), std::string::npos);
}

TEST(FileImage, EveryTruncationIsRefused) {
  const Elf elf = honest();
  for (std::size_t size = 0; size < elf.bytes.size(); ++size) {
    const Fd file = file_of({elf.bytes.data(), size});

    EXPECT_FALSE(FileImage::read(file.get(), "truncated.so")) << size;
  }
}

TEST(FileImage, TwentyThousandMutationsDoNoHarm) {
  const char *chosen = std::getenv("SHUNT_SEED");
  const auto seed =
      chosen != nullptr ? static_cast<std::uint32_t>(std::strtoul(chosen, nullptr, 0)) : std::random_device()();
  std::printf("SHUNT_SEED=%u\n", seed);
  std::fflush(stdout);  // known also after a crash
  std::mt19937 random(seed);
  const auto below = [&](std::size_t limit) { return static_cast<std::size_t>(random() % limit); };
  const Fd file(memfd_create("mutation", MFD_CLOEXEC));
  unsigned believed = 0;

  for (int round = 0; round < 20000; ++round) {
    Elf elf = honest(round % 2 == 0);
    const std::vector<std::uint64_t> values = extremes(elf);
    for (std::size_t changes = 1 + below(4); changes > 0; --changes) {
      const std::uint64_t value = below(2) == 0 ? random() : values[below(values.size())];
      const std::size_t width = std::size_t{1} << below(4);
      std::memcpy(elf.bytes.data() + below(elf.bytes.size() - 8), &value, width);
    }
    if (below(16) == 0) elf.bytes.resize(below(elf.bytes.size()));
    ASSERT_EQ(ftruncate(file.get(), 0), 0);
    ASSERT_EQ(pwrite(file.get(), elf.bytes.data(), elf.bytes.size(), 0), static_cast<ssize_t>(elf.bytes.size()));

    const auto read = FileImage::read(file.get(), "mutated.so");

    if (!read) continue;
    ++believed;
    unit::ask_everything(read->image());
    unit::ask_exact_copy(read->image());
  }
  EXPECT_GT(believed, 1000U);
}

}  // namespace
