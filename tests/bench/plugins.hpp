// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// plugins.hpp: the generated objects, loaded, and what their calls must answer. See `generate` for what they are.
#pragma once

#include "objects.hpp"

#include <string>
#include <vector>

namespace bench {

// Redirects are numbered by the rank of their function: 0 is the most popular one.
inline constexpr std::size_t kReplacements = 200;

class Plugins {
 public:
  // Loads everything in `directory`: the provider for all to see, as if the program were linked with it, then one plug-in
  // after the other with RTLD_LOCAL, as a server does. Binding is left to what the linker wrote into each plug-in.
  explicit Plugins(std::string directory);

  // The functions of rank first to first + count - 1, with their replacements.
  std::vector<Target> targets(std::size_t first, std::size_t count) const;

  // Calls all imports of all plug-ins and exits unless each answers as it must while the given redirects are in place.
  // Binds what is still unbound, so it belongs after what is measured.
  void verify(const std::vector<Target> &redirected) const;

 private:
  std::vector<std::string> names_;  // by rank
  std::vector<void *> handles_;
};

}  // namespace bench
