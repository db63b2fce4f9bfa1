#include "engine/dlsym_scope.hpp"

#include <algorithm>

#include "arch/native.hpp"

namespace shunt::core {
namespace {

/// Calls `visit(position)` for each object that `object` needs, in its order, until that answers false.
template <class Visit>
bool for_each_needed(const ObjectTable &objects, std::size_t count, const Object &object, Visit visit) {
  for (std::size_t n = 0;; ++n) {
    const char *const needed = object.image.needed(n);
    if (needed == nullptr) return true;
    const std::size_t position = objects.position_of_needed(needed);
    if (position < count && !visit(position)) return false;
  }
}

}  // namespace

std::uintptr_t DlsymFound::value() const { return is_resolver ? arch::Native::run_resolver(address) : address; }

DlsymFound DlsymScope::in(const Object &object) const {
  DlsymFound found;
  // Nobody finds anything in an object without a hash table: the dynamic linker passes over it. libc alone asks the vDSO.
  if (!object.is_readable || object.is_vdso ||
      (object.image.gnu_hash() == nullptr && object.image.sysv_hash() == nullptr))
    return found;
  found.symbol = find_for_dlsym(object.image, name_, version_);
  if (found.symbol == nullptr) return found;
  found.address = object.image.symbol_address(*found.symbol);
  found.is_resolver = symbol_type(*found.symbol) == STT_GNU_IFUNC && object.image.is_code(found.address);
  return found;
}

DlsymFound DlsymScope::in_program(const Object *behind) {
  const std::span<Object> all = objects_.in_load_order();
  const std::size_t count = std::min(objects_.startup_count(), all.size());
  for (std::size_t k = behind != nullptr ? position(*behind) + 1 : 0; k < count; ++k)
    if (const DlsymFound found = in(all[k]); found.is_there()) return found;
  return {};
}

/// The object whose dlopen() brought it in: perhaps itself.
std::size_t DlsymScope::brought_in_by(std::size_t position) {
  const std::span<Object> all = objects_.in_load_order();
  for (std::size_t k = objects_.startup_count(); k < position; ++k) {
    const bool does_not_need =
        for_each_needed(objects_, all.size(), all[k], [position](std::size_t needed) { return needed != position; });
    if (does_not_need) continue;
    position = k;
    k = objects_.startup_count() - 1;
  }
  return position;
}

DlsymFound DlsymScope::in_list_of(const Object &object, const Object *behind) {
  const std::span<Object> all = objects_.in_load_order();
  PageVector<std::uint32_t> list;
  if (!list.push_back(static_cast<std::uint32_t>(brought_in_by(position(object))))) return {};
  bool is_behind = behind == nullptr;
  for (std::size_t k = 0; k < list.size(); ++k) {
    const Object &one = all[list[k]];
    if (is_behind)
      if (const DlsymFound found = in(one); found.is_there()) return found;
    is_behind = is_behind || &one == behind;
    const bool has_memory = for_each_needed(objects_, all.size(), one, [&](std::size_t needed) {
      const auto number = static_cast<std::uint32_t>(needed);
      return std::find(list.begin(), list.end(), number) != list.end() || list.push_back(number);
    });
    if (!has_memory) return {};
  }
  return {};
}

}  // namespace shunt::core
