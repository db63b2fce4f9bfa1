// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "plugins.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace bench {
namespace {

using Function = unsigned long();

// The function of rank r returns r. A replacement's answer is so much larger that no mixture of others adds up to it.
constexpr unsigned long replaced_answer(std::size_t rank) { return 1'000'000 + 3 * rank; }

template <std::size_t Rank>
unsigned long replacement() {
  return replaced_answer(Rank);
}

template <std::size_t... Ranks>
constexpr std::array<Function *, sizeof...(Ranks)> all_replacements(std::index_sequence<Ranks...>) {
  return {replacement<Ranks>...};
}
constexpr auto kReplacement = all_replacements(std::make_index_sequence<kReplacements>());

void *load(const std::string &path, int scope) {
  if (void *handle = dlopen(path.c_str(), RTLD_LAZY | scope)) return handle;
  std::fprintf(stderr, "bench: %s\n", dlerror());
  std::exit(1);
}

}  // namespace

Plugins::Plugins(std::string directory) {
  std::ifstream names(directory + "/names");
  for (std::string name; std::getline(names, name);) names_.push_back(name);

  std::vector<std::string> paths;
  for (const auto &file : std::filesystem::directory_iterator(directory))
    if (file.path().filename().string().starts_with("libplugin")) paths.push_back(file.path());
  std::ranges::sort(paths);

  load(directory + "/libprovider.so", RTLD_GLOBAL);
  for (const std::string &path : paths) handles_.push_back(load(path, RTLD_LOCAL));
}

std::vector<Target> Plugins::targets(std::size_t first, std::size_t count) const {
  std::vector<Target> targets;
  for (std::size_t rank = first; rank < first + count; rank++)
    targets.push_back({names_.at(rank), reinterpret_cast<void *>(kReplacement.at(rank))});
  return targets;
}

void Plugins::verify(const std::vector<Target> &redirected) const {
  std::unordered_map<std::string_view, unsigned long> answers;
  for (std::size_t rank = 0; rank < names_.size(); rank++) answers[names_[rank]] = rank;
  for (const Target &target : redirected) answers[target.symbol] = reinterpret_cast<Function *>(target.replacement)();

  std::unordered_map<std::uintptr_t, Object> by_base;
  for (const Object &object : loaded_objects()) by_base[object.base] = object;

  for (void *handle : handles_) {
    const link_map *map = nullptr;
    dlinfo(handle, RTLD_DI_LINKMAP, &map);
    unsigned long expected = 0;
    by_base.at(map->l_addr).for_each_slot([&](std::uintptr_t, const char *name) { expected += answers.at(name); });
    unsigned long answered = reinterpret_cast<Function *>(dlsym(handle, "run"))();
    if (answered == expected) continue;
    std::fprintf(stderr, "bench: with %zu redirects in place, the calls of %s add up to %lu instead of %lu\n",
                 redirected.size(), map->l_name, answered, expected);
    std::exit(1);
  }
}

}  // namespace bench
