#include "objects/loader_watch.hpp"

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <link.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <span>
#include <utility>

namespace shunt::core {
namespace {

using Initializer = void (*)(int argc, char **argv, char **environment);

constexpr std::size_t kMost = 256;

/// An object between its mapping and its initialization. Written on the thread that holds the dynamic linker's lock.
struct Waiting {
  std::atomic<std::uintptr_t> base = 0;  // 0: free
  std::atomic<std::uint64_t> load = 0;   // which load it was part of
  bool is_silent = false;                // nothing of ours will be called for it
  // What its .dynamic said: a function, or else an array of them.
  Initializer function = nullptr;
  std::uintptr_t array = 0;
  std::size_t count = 0;
};

constinit Waiting waiting[kMost];
constinit std::atomic<std::size_t> waiting_end = 0;  // places behind it are free
constinit std::atomic<std::size_t> waiting_count = 0;
// Loads are numbered from 1. All up to `relocated` are.
constinit std::atomic<std::uint64_t> loads = 0, relocated = 0, last_silent = 0;
constinit std::atomic<void (*)()> ready = nullptr;
constinit std::atomic<std::size_t> known = 0;   // objects that were there when the list was right the last time
constinit std::atomic<bool> is_adding = false;  // objects behind those are in the list, and not mapped as a whole

const r_debug *debug() {
  static std::atomic<const r_debug *> found;
  const r_debug *debug = found.load(std::memory_order_relaxed);
  if (debug != nullptr) return debug;
  // Through the executable's DT_DEBUG, not `_r_debug`: a copy relocation makes that one stale (ld.so(8), link.h).
  dl_iterate_phdr(
      [](dl_phdr_info *info, std::size_t, void *to) {
        for (const ElfW(Phdr) & header : std::span(info->dlpi_phdr, info->dlpi_phnum)) {
          if (header.p_type != PT_DYNAMIC) continue;
          const auto *entry = reinterpret_cast<const ElfW(Dyn) *>(info->dlpi_addr + header.p_vaddr);
          const std::size_t count = header.p_memsz / sizeof *entry;
          for (const ElfW(Dyn) & one : std::span(entry, count)) {
            if (one.d_tag == DT_NULL) break;
            if (one.d_tag == DT_DEBUG) *static_cast<const r_debug **>(to) = reinterpret_cast<r_debug *>(one.d_un.d_ptr);
          }
        }
        return 1;  // the executable comes first
      },
      &debug);
  if (debug != nullptr) found = debug;
  return debug;
}

// ---- initialization ----------------------------------------------------------------------------------------------------

void release(Waiting &one) {
  one.base = 0;
  if (waiting_count.fetch_sub(1) == 1) waiting_end = 0;
}

/// The first initialization after a load: the dynamic linker relocates all before it initializes one.
void all_relocated() {
  const std::uint64_t last = loads.load();
  if (relocated.exchange(last) == last) return;
  if (void (*const tell)() = ready.load()) tell();
}

/// Called instead of the k-th waiting object's initialization function, or of the first in its array.
void initialize(std::size_t k, int argc, char **argv, char **environment) {
  all_relocated();
  Waiting &one = waiting[k];
  const Initializer function = one.function;
  const std::span array(reinterpret_cast<const Initializer *>(one.array), one.count);
  release(one);  // the constructors may load objects
  if (function != nullptr) return function(argc, argv, environment);
  for (const Initializer each : array) each(argc, argv, environment);
}

template <std::size_t K>
void initialize(int argc, char **argv, char **environment) {
  initialize(K, argc, argv, environment);
}

template <std::size_t... K>
constexpr auto make_initializers(std::index_sequence<K...>) {
  struct Table {
    Initializer of[sizeof...(K)];
  };
  return Table{{initialize<K>...}};
}

// One for each place in `waiting`; also the array of one function that an object's array is exchanged for.
constinit const auto initializers = make_initializers(std::make_index_sequence<kMost>());

// ---- new objects -------------------------------------------------------------------------------------------------------

struct Found {
  Elf64_Dyn *function = nullptr, *array = nullptr, *array_size = nullptr;
};

Found find_initialization(const dl_phdr_info &info) {
  Found found;
  for (const ElfW(Phdr) & header : std::span(info.dlpi_phdr, info.dlpi_phnum)) {
    if (header.p_type != PT_DYNAMIC) continue;
    auto *const entries = reinterpret_cast<Elf64_Dyn *>(info.dlpi_addr + header.p_vaddr);
    for (Elf64_Dyn &one : std::span(entries, header.p_memsz / sizeof *entries)) {
      if (one.d_tag == DT_NULL) break;
      if (one.d_tag == DT_INIT) found.function = &one;
      if (one.d_tag == DT_INIT_ARRAY) found.array = &one;
      if (one.d_tag == DT_INIT_ARRAYSZ) found.array_size = &one;
    }
  }
  return found;
}

bool can_be_written(const dl_phdr_info &info, const Elf64_Dyn *entry) {
  const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(entry) - info.dlpi_addr;
  for (const ElfW(Phdr) & header : std::span(info.dlpi_phdr, info.dlpi_phnum))
    if (header.p_type == PT_LOAD && (header.p_flags & PF_W) != 0 && offset - header.p_vaddr < header.p_memsz)
      return true;
  return false;
}

/// Points the object's initialization at ours. Its .dynamic says where, as an offset from its base.
void lead(const dl_phdr_info &info, Waiting &one, const Initializer &ours) {
  const Found found = find_initialization(info);
  const auto offset = [&info](auto *address) { return reinterpret_cast<std::uintptr_t>(address) - info.dlpi_addr; };
  one.function = nullptr;
  one.array = one.count = 0;
  one.is_silent = true;
  if (found.function != nullptr && found.function->d_un.d_ptr != 0) {
    if (!can_be_written(info, found.function)) return;
    one.function = reinterpret_cast<Initializer>(info.dlpi_addr + found.function->d_un.d_ptr);
    found.function->d_un.d_ptr = offset(ours);
  } else {
    if (found.array == nullptr || found.array_size == nullptr || found.array_size->d_un.d_val < sizeof ours ||
        !can_be_written(info, found.array) || !can_be_written(info, found.array_size))
      return;
    one.array = info.dlpi_addr + found.array->d_un.d_ptr;
    one.count = found.array_size->d_un.d_val / sizeof ours;
    found.array->d_un.d_ptr = offset(&ours);
    found.array_size->d_un.d_val = sizeof ours;
  }
  one.is_silent = false;
}

/// The objects behind the first `known` ones are new.
void await_new() {
  struct State {
    std::size_t position = 0, place = 0;
    std::uint64_t load = loads.load() + 1;
    bool is_silent = true;
  } state;
  dl_iterate_phdr(
      [](dl_phdr_info *info, std::size_t, void *to) {
        State &at = *static_cast<State *>(to);
        if (at.position++ < known.load()) return 0;
        while (at.place < kMost && waiting[at.place].base.load() != 0) ++at.place;
        if (at.place == kMost) return 1;
        Waiting &one = waiting[at.place];
        lead(*info, one, initializers.of[at.place]);
        at.is_silent = at.is_silent && one.is_silent;
        one.load = at.load;
        one.base = info->dlpi_addr;
        waiting_count.fetch_add(1);
        waiting_end = std::max(waiting_end.load(), at.place + 1);
        return 0;
      },
      &state);
  if (state.is_silent) last_silent = state.load;
  loads = state.load;
}

/// Objects that were unloaded before their initialization, and those that nothing will be called for any more.
void forget_gone() {
  bool is_there[kMost] = {};
  dl_iterate_phdr(
      [](dl_phdr_info *info, std::size_t, void *to) {
        for (std::size_t k = 0; k < waiting_end.load(); ++k)
          if (waiting[k].base.load() == info->dlpi_addr) static_cast<bool *>(to)[k] = true;
        return 0;
      },
      is_there);
  for (std::size_t k = 0; k < kMost; ++k) {
    Waiting &one = waiting[k];
    if (one.base.load() != 0 && (!is_there[k] || (one.is_silent && one.load.load() <= relocated.load()))) release(one);
  }
}

/// Whether the dynamic linker says of r_debug that it is of version 2 as soon as there is another namespace: glibc from 2.35 on.
bool tells_of_namespaces() { return strverscmp(gnu_get_libc_version(), "2.35") >= 0; }

/// In this namespace. The counters of dl_iterate_phdr are those of all together, so they will do only where there never was another.
std::size_t count_objects() {
  const r_debug *const first = debug();
  const bool is_alone = first != nullptr && first->r_version < 2 && tells_of_namespaces();
  struct State {
    std::size_t count;
    bool is_alone;
  } state{0, is_alone};
  dl_iterate_phdr(
      [](dl_phdr_info *info, std::size_t, void *to) {
        State &at = *static_cast<State *>(to);
        at.count = at.is_alone ? info->dlpi_adds - info->dlpi_subs : at.count + 1;
        return at.is_alone ? 1 : 0;
      },
      &state);
  return state.count;
}

}  // namespace

// ---- for the engine ----------------------------------------------------------------------------------------------------

std::uintptr_t LoaderWatch::notice_point() {
  const r_debug *const list = debug();
  return list != nullptr ? list->r_brk : 0;
}

void LoaderWatch::notice() {
  if (ready.load() == nullptr) return;
  const r_debug &list = *debug();
  if (list.r_state == r_debug::RT_ADD) is_adding = true;  // the first of them comes into the list after this
  if (list.r_state != r_debug::RT_CONSISTENT) return;
  if (waiting_count.load() != 0) forget_gone();
  const std::size_t count = count_objects();
  if (count > known.load()) await_new();
  known = count;
  is_adding = false;
}

void LoaderWatch::tell(void (*to)()) {
  if (ready.load() == nullptr) known = count_objects();
  ready = to;
}

LoaderWatch::Load LoaderWatch::load_of(std::uintptr_t base, std::size_t position) {
  if (is_adding.load() && position >= known.load()) return {0, true};
  for (const Waiting &one : std::span(waiting, waiting_end.load()))
    if (one.base.load() == base) return {one.load.load(), one.load.load() > relocated.load()};
  return {};
}

bool LoaderWatch::has_silent() { return last_silent.load() > relocated.load(); }

void LoaderWatch::wait_for_loading() {
  const std::uint64_t last = loads.load();
  Dl_info info;
  dladdr(reinterpret_cast<const void *>(&wait_for_loading), &info);  // takes the lock that a load holds from end to end
  for (std::uint64_t now = relocated.load(); now < last && !relocated.compare_exchange_weak(now, last);) {
  }
}

void LoaderWatch::after_fork_in_child() { relocated = loads.load(); }

std::size_t LoaderWatch::other_namespaces() {
  const r_debug *const first = debug();
  std::size_t count = 0;
  if (first == nullptr || first->r_version < 2) return 0;  // version 2 has the list: link.h
  for (const auto *one = reinterpret_cast<const r_debug_extended *>(first)->r_next; one != nullptr; one = one->r_next)
    count += one->base.r_map != nullptr ? 1 : 0;
  return count;
}

}  // namespace shunt::core
