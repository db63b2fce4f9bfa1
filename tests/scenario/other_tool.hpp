// other_tool.hpp: a hooking tool that is not shunt: it makes a read-only page writable, stores, and makes it read-only again.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

namespace other_tool {

inline void *page_of(std::uint64_t address) {
  return reinterpret_cast<void *>(address / getpagesize() * getpagesize());
}

inline std::uintptr_t read(std::uint64_t slot) { return *reinterpret_cast<const volatile std::uintptr_t *>(slot); }

/// The slot lies in a page that the dynamic linker made read-only (RELRO).
inline void write(std::uint64_t slot, std::uintptr_t value) {
  ASSERT_EQ(mprotect(page_of(slot), getpagesize(), PROT_READ | PROT_WRITE), 0);
  *reinterpret_cast<volatile std::uintptr_t *>(slot) = value;
  ASSERT_EQ(mprotect(page_of(slot), getpagesize(), PROT_READ), 0);
}

}  // namespace other_tool
