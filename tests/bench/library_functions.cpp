#include "library_functions.hpp"

#include <dlfcn.h>
#include <link.h>

#include <cstdio>
#include <set>

namespace shunt::core {

bool Library::load(const char *name) {
  handle_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  const link_map *map = nullptr;
  if (handle_ == nullptr || dlinfo(handle_, RTLD_DI_LINKMAP, &map) != 0) {
    std::fprintf(stderr, "%s\n", dlerror());
    return false;
  }
  base_ = map->l_addr;
  ObjectTable table;
  ObjectFacts facts;
  Problem problem;
  table.while_locked(problem, [&](Problem &failed) {
    for (const Object &object : table.in_load_order()) {
      if (object.image.base() != base_) continue;
      code_ = ObjectCode(object.image);
      ObjectFacts::copy(object, facts, failed);
    }
  });
  const auto names = ObjectFunctions::read(facts);
  if (problem || !names) {
    std::fprintf(stderr, "%s\n", problem ? problem.message : names.error().message.c_str());
    return false;
  }

  std::set<std::uint64_t> addresses;
  names->for_each([&](const FunctionName &one) { addresses.insert(one.address); });
  CallFrame frame;
  for (std::size_t k = 0; k < code_.frames().size(); ++k)
    if (code_.frames().at(k, frame)) addresses.insert(frame.begin);
  for (const std::uint64_t address : addresses) {
    auto description = names->describe(address, code_);
    if (!description || description->function.body.size == 0) continue;
    const std::vector<FunctionName> called = names->at(address);
    functions_.push_back({std::move(*description), called.empty() ? "" : called.front().name});
  }
  return true;
}

}  // namespace shunt::core
