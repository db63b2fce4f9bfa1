// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "baselines.hpp"

#include <sys/mman.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace bench {
namespace {

void protect(std::uintptr_t begin, std::size_t size, int protection) {
  if (mprotect(reinterpret_cast<void *>(begin), size, protection) == 0) return;
  std::perror("bench: mprotect");
  std::exit(1);
}

std::uint64_t read_relocations(const Object &object, Floor depth) {
  std::uint64_t read = 0;
  for (auto table : object.tables)
    if (depth == Floor::relocations)
      for (const Elf64_Rela &relocation : table) read += relocation.r_offset ^ relocation.r_info;
    else
      for (const Elf64_Rela &relocation : table) {
        read += relocation.r_offset;
        if (std::uint64_t symbol = ELF64_R_SYM(relocation.r_info)) {
          std::uint64_t first_bytes;  // of a shorter name and what follows it: the table is never the last in its pages
          std::memcpy(&first_bytes, object.name_of(symbol), sizeof first_bytes);
          read += first_bytes;
        }
      }
  return read;
}

void *store_alone(const Object &object, std::uintptr_t slot, void *value) {
  protect(page_of(slot), page_size(), PROT_READ | PROT_WRITE);
  void *before = std::atomic_ref(*reinterpret_cast<void **>(slot)).exchange(value);
  protect(page_of(slot), page_size(), object.protects(slot) ? PROT_READ : PROT_READ | PROT_WRITE);
  return before;
}

}  // namespace

void change_protections(const std::vector<Span> &spans) {
  for (const Span &span : spans) {
    if (span.size == 0) continue;
    protect(span.begin, span.size, PROT_READ | PROT_WRITE);
    protect(span.begin, span.size, PROT_READ);
  }
}

void floor(Floor depth, std::vector<Span> spans) {
  auto span = spans.begin();
  std::size_t place = 0;
  std::uint64_t read = 0;
  for_each_object([&](const Object &object) {
    if (span != spans.end() && span->object == place) span++->begin += object.base;
    place++;
    read += read_relocations(object, depth);
  });
  [[maybe_unused]] static volatile std::uint64_t keep_the_reads;
  keep_the_reads = read;

  change_protections(spans);
}

std::vector<Stored> naive_apply(const std::vector<Object> &objects, const std::vector<Target> &targets) {
  std::vector<Stored> stored;
  for (const Target &target : targets)
    for (const Object &object : objects)
      object.for_each_slot([&](std::uintptr_t slot, const char *name) {
        if (std::strcmp(name, target.symbol.c_str()) == 0)
          stored.push_back({&object, slot, store_alone(object, slot, target.replacement)});
      });
  return stored;
}

void naive_undo(const std::vector<Stored> &stored) {
  for (const Stored &store : stored) store_alone(*store.object, store.slot, store.before);
}

}  // namespace bench
