#include "engine/outside.hpp"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>

#include "arch/native_code.hpp"

namespace shunt::core {

Outside::~Outside() {
  for (const Kept &one : kept_)
    if (one.handle != nullptr) dlclose(one.handle);
}

Outside::State Outside::decoder() {
  if (arch::NativeCode::is_ready()) return State::held;
  if (decoder_ == State::failed) return State::failed;
  is_wanting_ = true;
  return decoder_ = State::wanted;
}

Outside::State Outside::keep(ObjectId id, const char *linked, std::uintptr_t base) {
  const auto found = std::find_if(kept_.begin(), kept_.end(), [id](const Kept &one) { return one.id == id; });
  if (found != kept_.end()) return found->state;
  kept_.push_back({id, linked, base, nullptr, State::wanted});
  is_wanting_ = true;
  return State::wanted;
}

void Outside::provide() {
  if (decoder_ == State::wanted) decoder_ = arch::NativeCode::ready() ? State::held : State::failed;
  for (Kept &one : kept_) {
    if (one.state != State::wanted) continue;
    // Only what is loaded already, and nothing about it changes. It may be another object of that name by now.
    one.handle = dlopen(one.linked, RTLD_LAZY | RTLD_NOLOAD);
    link_map *map = nullptr;
    const bool is_it = one.handle != nullptr && dlinfo(one.handle, RTLD_DI_LINKMAP, &map) == 0 &&
                       static_cast<std::uintptr_t>(map->l_addr) == one.base;
    one.state = is_it ? State::held : State::failed;
  }
  is_wanting_ = false;
}

}  // namespace shunt::core
