// support.hpp: what the tests of entries have in common.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <shunt/shunt.hpp>

#include <cstdlib>
#include <string>

#include "../child.hpp"
#include "../evidence.hpp"
#include "../memory_of.hpp"
#include "game.h"

namespace entries {

constexpr const char *kGame = "libentries_game.so";

inline int thousand(int x) { return 1000 + x; }
inline int two_thousand(int x) { return 2000 + x; }

/// The code of the game, byte by byte, and every slot of the process.
struct Bytes {
  evidence::Slots slots = evidence::slots();
  scenario::Pages code = scenario::memory_of(kGame);
};

inline void expect_as(const Bytes &before) {
  const Bytes now;
  // Objects may have come meanwhile: the decoder, a patch.
  for (const auto &[address, word] : before.slots) EXPECT_EQ(now.slots.at(address), word) << std::hex << address;
  ASSERT_EQ(now.code.size(), before.code.size()) << "pages of the file are not the file's any more";
  for (const auto &[address, page] : before.code) {
    EXPECT_EQ(now.code.at(address).protection, page.protection) << std::hex << address;
    if (page.protection[1] != 'w') {
      EXPECT_TRUE(now.code.at(address).bytes == page.bytes) << std::hex << address;
    }
  }
}

/// Where a function of the game really is: in the program, its address comes from a slot.
inline int (*address_of(const char *name))(int) {
  static void *const game = dlopen(kGame, RTLD_NOW | RTLD_NOLOAD);
  return reinterpret_cast<int (*)(int)>(dlsym(game, name));
}

inline shunt::Plan plan_of(const char *symbol, const shunt::Options &options = {}) {
  auto transaction = shunt::Transaction::create();
  EXPECT_TRUE(transaction->add(symbol, &thousand, options));
  auto plan = transaction->plan();
  EXPECT_TRUE(plan) << plan.error().message();
  return plan ? std::move(*plan) : shunt::Plan(nullptr);
}

inline bool says(const std::string &text, const std::string &part) { return text.find(part) != std::string::npos; }

}  // namespace entries
