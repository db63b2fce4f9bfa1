// loaded.hpp: a written image at an address of its own, as the dynamic linker leaves it, with nothing readable behind it.
#pragma once

#include <cstring>
#include <utility>

#include "elf/image.hpp"
#include "elf_writer.hpp"
#include "guarded.hpp"

namespace unit {

enum class Base {
  offsets,   // .dynamic holds offsets from the load base: musl, the vDSO
  in_place,  // .dynamic holds addresses: glibc writes them there
  zero,      // the base is 0 and everything holds addresses: an executable that is not position independent
};

class Loaded {
 public:
  explicit Loaded(Elf elf, Base base = Base::offsets)
      : memory_((elf.bytes.size() + 15) / 16 * 16), elf_(std::move(elf)) {
    base_ = reinterpret_cast<std::uintptr_t>(memory_.begin());
    if (base == Base::zero) move_contents();
    if (base != Base::offsets) move_dynamic();
    if (base == Base::zero)
      for (Elf64_Phdr &header : elf_.headers()) header.p_vaddr += base_;
    std::memcpy(memory_.begin(), elf_.bytes.data(), elf_.bytes.size());
    link_base_ = base == Base::zero ? 0 : base_;
  }

  [[nodiscard]] shunt::core::Image parse(shunt::core::Problem &problem) {
    return shunt::core::Image::parse(link_base_, elf_.headers(), problem);
  }
  /// The address of an offset of the written file.
  [[nodiscard]] std::uintptr_t address(std::uint64_t offset) const { return base_ + offset; }
  [[nodiscard]] std::uintptr_t begin() const { return base_; }
  [[nodiscard]] std::uintptr_t end() const { return base_ + memory_.size(); }
  [[nodiscard]] const Elf &elf() const { return elf_; }

 private:
  void move_contents() {
    for (std::size_t k = 0; k < elf_.symbol_index.size(); ++k)
      if (elf_.symbol(k).st_shndx != SHN_UNDEF) elf_.symbol(k).st_value += base_;
    const auto move_places = [&](std::int64_t table, std::int64_t size, std::size_t entry) {
      if (elf_.find_dynamic(table) == nullptr) return;
      for (std::uint64_t k = 0; k < elf_.dynamic(size); k += entry)
        elf_.at<std::uint64_t>(elf_.dynamic(table) + k) += base_;  // r_offset
    };
    move_places(DT_RELA, DT_RELASZ, sizeof(Elf64_Rela));
    move_places(DT_JMPREL, DT_PLTRELSZ, elf_.plt_entry_size());
    move_places(DT_REL, DT_RELSZ, sizeof(Elf64_Rel));
  }
  void move_dynamic() {
    for (const std::int64_t tag :
         {DT_STRTAB, DT_SYMTAB, DT_HASH, DT_GNU_HASH, DT_RELA, DT_JMPREL, DT_REL, DT_VERSYM, DT_VERNEED, DT_VERDEF})
      if (std::uint64_t *value = elf_.find_dynamic(tag)) *value += base_;
  }

  Guarded memory_;
  Elf elf_;
  std::uintptr_t base_ = 0, link_base_ = 0;
};

}  // namespace unit
