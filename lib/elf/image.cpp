#include "elf/image.hpp"

#include <algorithm>

#include "arch/native.hpp"

namespace shunt::core {

Image Image::placed(std::uintptr_t base, std::span<const Elf64_Phdr> headers) {
  Image image;
  return image.place(base, headers) ? image : Image();
}

bool Image::place(std::uintptr_t base, std::span<const Elf64_Phdr> headers) {
  base_ = base;
  headers_ = headers;
  low_ = UINTPTR_MAX;
  for (const Elf64_Phdr &header : headers) {
    if (header.p_type != PT_LOAD) continue;
    const std::uintptr_t begin = base + header.p_vaddr;
    if (begin + header.p_memsz < begin) return false;
    low_ = std::min(low_, begin);
    high_ = std::max<std::uintptr_t>(high_, begin + header.p_memsz);
  }
  return true;
}

Image Image::parse(std::uintptr_t base, std::span<const Elf64_Phdr> headers, Problem &problem) {
  Image image;
  if (!image.place(base, headers)) {
    problem.set(Code::image_malformed, "a segment wraps around the end of the address space");
    return Image();
  }
  if (image.high_ == 0) {
    problem.set(Code::image_malformed, "no PT_LOAD segment");
    return Image();
  }
  const Elf64_Phdr *dynamic = nullptr;
  for (const Elf64_Phdr &header : headers)
    if (header.p_type == PT_DYNAMIC) dynamic = &header;
  if (dynamic == nullptr) return image;  // a static executable: nothing is imported

  const std::size_t room = dynamic->p_memsz / sizeof(Elf64_Dyn);
  image.dynamic_ = image.at<Elf64_Dyn>(base + dynamic->p_vaddr, room);
  if (image.dynamic_ == nullptr) {
    problem.set(Code::image_malformed, "PT_DYNAMIC reaches outside the segments");
    return Image();
  }
  while (image.dynamic_count_ < room && image.dynamic_[image.dynamic_count_].d_tag != DT_NULL) ++image.dynamic_count_;
  image.read_dynamic(problem);
  return problem ? Image() : image;
}

void Image::read_dynamic(Problem &problem) {
  std::uintptr_t strings = 0, symbols = 0, gnu_hash = 0, sysv_hash = 0, versym = 0, verneed = 0, verdef = 0;
  std::uintptr_t rela = 0, rel = 0, jmprel = 0;
  std::uint64_t strings_size = 0, rela_size = 0, rel_size = 0, jmprel_size = 0, plt_kind = DT_RELA;
  for (const Elf64_Dyn &entry : std::span(dynamic_, dynamic_count_)) {
    const std::uint64_t value = entry.d_un.d_val;
    switch (entry.d_tag) {
      case DT_STRTAB:
        strings = address_of(value);
        break;
      case DT_STRSZ:
        strings_size = value;
        break;
      case DT_SYMTAB:
        symbols = address_of(value);
        break;
      case DT_GNU_HASH:
        gnu_hash = address_of(value);
        break;
      case DT_HASH:
        sysv_hash = address_of(value);
        break;
      case DT_VERSYM:
        versym = address_of(value);
        break;
      case DT_VERNEED:
        verneed = address_of(value);
        break;
      case DT_VERNEEDNUM:
        versions_.needs_count = static_cast<std::uint32_t>(value);
        break;
      case DT_VERDEF:
        verdef = address_of(value);
        break;
      case DT_VERDEFNUM:
        versions_.definitions_count = static_cast<std::uint32_t>(value);
        break;
      case DT_RELA:
        rela = address_of(value);
        break;
      case DT_RELASZ:
        rela_size = value;
        break;
      case DT_REL:
        rel = address_of(value);
        break;
      case DT_RELSZ:
        rel_size = value;
        break;
      case DT_JMPREL:
        jmprel = address_of(value);
        break;
      case DT_PLTRELSZ:
        jmprel_size = value;
        break;
      case DT_PLTREL:
        plt_kind = value;
        break;
      case DT_SONAME:
        soname_ = static_cast<std::uint32_t>(std::min<std::uint64_t>(value, UINT32_MAX));
        break;
      case DT_SYMBOLIC:
        symbolic_ = true;
        break;
      case DT_TEXTREL:
        text_relocations_ = true;
        break;
      case DT_FLAGS:
        symbolic_ = symbolic_ || (value & DF_SYMBOLIC) != 0;
        text_relocations_ = text_relocations_ || (value & DF_TEXTREL) != 0;
        now_ = now_ || (value & DF_BIND_NOW) != 0;
        break;
      case DT_FLAGS_1: now_ = now_ || (value & DF_1_NOW) != 0; break;
      case DT_BIND_NOW: now_ = true; break;
      case DT_SYMENT:
        if (value != sizeof(Elf64_Sym)) problem.set(Code::image_malformed, "DT_SYMENT has an unknown size");
        break;
      case DT_RELAENT:
        if (value != sizeof(Elf64_Rela)) problem.set(Code::image_malformed, "DT_RELAENT has an unknown size");
        break;
      case DT_RELENT:
        if (value != sizeof(Elf64_Rel)) problem.set(Code::image_malformed, "DT_RELENT has an unknown size");
        break;
      default:
        break;
    }
  }

  if (strings != 0 && strings_size != 0) {
    if (strings_size < UINT32_MAX) strings_ = at<char>(strings, strings_size);
    if (strings_ == nullptr) return problem.set(Code::image_malformed, "the string table reaches outside its segment");
    if (strings_[strings_size - 1] != '\0')
      return problem.set(Code::image_malformed, "the string table does not end with a NUL");
    strings_size_ = static_cast<std::uint32_t>(strings_size);
    strings_readable_end_ = reinterpret_cast<const char *>(readable_end(strings));
  }
  if (symbols != 0) {
    // No entry says how many there are. Linkers put the strings right behind the symbols; the segment's end holds anyway.
    std::uintptr_t end = readable_end(symbols);
    if (end == 0 || symbols % alignof(Elf64_Sym) != 0)
      return problem.set(Code::image_malformed, "the symbol table lies outside the segments");
    if (strings > symbols) end = std::min(end, strings);
    symbols_ = reinterpret_cast<const Elf64_Sym *>(symbols);
    symbol_limit_ =
        static_cast<std::uint32_t>(std::min<std::uint64_t>((end - symbols) / sizeof(Elf64_Sym), UINT32_MAX));
  }

  // Some linkers let DT_RELASZ include the PLT's relocations: each is to be counted once.
  if (plt_kind == DT_RELA && jmprel >= rela && jmprel + jmprel_size == rela + rela_size) rela_size = jmprel - rela;
  if (plt_kind == DT_REL && jmprel >= rel && jmprel + jmprel_size == rel + rel_size) rel_size = jmprel - rel;
  if (plt_kind != DT_RELA && plt_kind != DT_REL)
    return problem.set(Code::image_malformed, "DT_PLTREL is neither DT_REL nor DT_RELA");
  set_table(0, rela, rela_size, true, problem);
  set_table(1, jmprel, jmprel_size, plt_kind == DT_RELA, problem);
  set_table(2, rel, rel_size, false, problem);

  gnu_hash_ = gnu_hash != 0 ? at<std::uint32_t>(gnu_hash, 4) : nullptr;
  sysv_hash_ = sysv_hash != 0 ? at<std::uint32_t>(sysv_hash, 2) : nullptr;
  if ((gnu_hash != 0 && gnu_hash_ == nullptr) || (sysv_hash != 0 && sysv_hash_ == nullptr))
    return problem.set(Code::image_malformed, "a hash table lies outside the segments");
  if (versym != 0) {
    const std::uintptr_t end = readable_end(versym);
    if (end == 0 || versym % alignof(Elf64_Half) != 0)
      return problem.set(Code::image_malformed, "the version table lies outside the segments");
    versions_.symbols = reinterpret_cast<const Elf64_Half *>(versym);
    symbol_limit_ = std::min<std::uint32_t>(
        symbol_limit_, static_cast<std::uint32_t>(std::min<std::uint64_t>((end - versym) / 2, UINT32_MAX)));
    versions_.needs = verneed != 0 ? at<Elf64_Verneed>(verneed) : nullptr;
    versions_.definitions = verdef != 0 ? at<Elf64_Verdef>(verdef) : nullptr;
  }
}

void Image::set_table(unsigned k, std::uintptr_t value, std::uint64_t size, bool with_addend, Problem &problem) {
  if (value == 0 || size == 0) return;
  const std::size_t entry = with_addend ? sizeof(Elf64_Rela) : sizeof(Elf64_Rel);
  if (size % entry != 0 || size / entry >= (1U << 30))
    return problem.set(Code::image_malformed, "a relocation table has an impossible size");
  const bool readable =
      with_addend ? at<Elf64_Rela>(value, size / entry) != nullptr : at<Elf64_Rel>(value, size / entry) != nullptr;
  if (!readable) return problem.set(Code::image_malformed, "a relocation table reaches outside its segment");
  tables_[k] = {reinterpret_cast<const void *>(value), static_cast<std::uint32_t>(size / entry), with_addend};
}

const Elf64_Phdr *Image::segment_at(std::uintptr_t address, std::size_t size) const {
  for (const Elf64_Phdr &header : headers_) {
    if (header.p_type != PT_LOAD) continue;
    const std::uintptr_t begin = base_ + header.p_vaddr;
    if (address >= begin && address - begin <= header.p_memsz && size <= header.p_memsz - (address - begin))
      return &header;
  }
  return nullptr;
}

bool Image::is_code(std::uintptr_t address) const {
  const Elf64_Phdr *segment = segment_at(address);
  return segment != nullptr && (segment->p_flags & PF_X) != 0;
}

Image::Range Image::data_around(std::uintptr_t address) const {
  const Elf64_Phdr *segment = segment_at(address, sizeof(std::uintptr_t));
  if (segment == nullptr || (segment->p_flags & (PF_R | PF_W)) != (PF_R | PF_W)) return {};
  return {base_ + segment->p_vaddr, base_ + segment->p_vaddr + segment->p_memsz};
}

bool Image::is_data(std::uintptr_t address) const { return data_around(address).end != 0; }

Image::Range Image::relro() const {
  for (const Elf64_Phdr &header : headers_)
    if (header.p_type == PT_GNU_RELRO) return {base_ + header.p_vaddr, base_ + header.p_vaddr + header.p_memsz};
  return {};
}

std::uintptr_t Image::address_of(std::uint64_t value) const {
  return value >= low_ && value < high_ ? value : base_ + value;
}

std::uintptr_t Image::readable_end(std::uintptr_t address) const {
  const Elf64_Phdr *segment = segment_at(address);
  if (segment == nullptr || (segment->p_flags & PF_R) == 0) return 0;
  const std::uintptr_t end = base_ + segment->p_vaddr + std::min(segment->p_filesz, segment->p_memsz);
  return address < end ? end : 0;
}

const char *Image::soname() const { return soname_ != 0 ? string(soname_) : ""; }

const char *Image::needed(std::size_t k) const {
  for (const Elf64_Dyn &entry : std::span(dynamic_, dynamic_count_))
    if (entry.d_tag == DT_NEEDED && k-- == 0)
      return string(static_cast<std::uint32_t>(std::min<std::uint64_t>(entry.d_un.d_val, UINT32_MAX)));
  return nullptr;
}

std::span<const std::uint8_t> Image::build_id() const {
  for (const Elf64_Phdr &header : headers_) {
    if (header.p_type != PT_NOTE) continue;
    // Notes are padded to 4 bytes, or to 8 where the segment says so (System V ABI, "Note Section").
    const std::uint64_t align = header.p_align == 8 ? 8 : 4;
    const auto padded = [align](std::uint64_t size) { return (size + align - 1) / align * align; };
    const std::uint8_t *bytes = at<std::uint8_t>(base_ + header.p_vaddr, header.p_memsz);
    for (std::uint64_t offset = 0; bytes != nullptr && header.p_memsz - offset >= sizeof(Elf64_Nhdr);) {
      const auto *note = at<Elf64_Nhdr>(base_ + header.p_vaddr + offset);
      if (note == nullptr) break;
      const std::uint64_t name_at = offset + sizeof(Elf64_Nhdr);
      const std::uint64_t text_at = padded(name_at + note->n_namesz);
      const std::uint64_t next = padded(text_at + note->n_descsz);
      if (text_at + note->n_descsz > header.p_memsz) break;
      if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 &&
          std::equal(bytes + name_at, bytes + name_at + 4, "GNU"))
        return {bytes + text_at, note->n_descsz};
      if (next > header.p_memsz) break;
      offset = next;
    }
  }
  return {};
}

}  // namespace shunt::core
