#include "objects/object_table.hpp"

#include <fcntl.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <algorithm>

#include "base/glob.hpp"
#include "base/syscalls.hpp"
#include "objects/loader_watch.hpp"

namespace shunt::core {
namespace {

const char *last_part(const char *path) {
  const char *slash = std::strrchr(path, '/');
  return slash != nullptr ? slash + 1 : path;
}

/// An address inside shunt's own object.
std::uintptr_t own_address() { return reinterpret_cast<std::uintptr_t>(&own_address); }

}  // namespace

bool Object::matches(const char *glob) const {
  return glob_matches(glob, path) || glob_matches(glob, last_part(path)) ||
         (*soname != '\0' && glob_matches(glob, soname));
}

void ObjectTable::locked(Problem &problem, Entry work, void *context) {
  struct Call {
    ObjectTable &table;
    Problem &problem;
    Entry work;
    void *context;
  } call{*this, problem, work, context};
  dl_iterate_phdr(
      [](dl_phdr_info *info, std::size_t size, void *argument) {
        auto &here = *static_cast<Call *>(argument);
        here.table.refresh(*info, size, here.problem);
        if (!here.problem) here.work(here.context, here.problem);
        return 1;  // the first object's turn is all that is needed: the lock is held now
      },
      &call);
}

void ObjectTable::refresh(const dl_phdr_info &info, std::size_t info_size, Problem &problem) {
  const bool counted = info_size >= offsetof(dl_phdr_info, dlpi_subs) + sizeof info.dlpi_subs;
  if (counted && !objects_.empty() && !has_left_out_ && info.dlpi_adds == adds_ && info.dlpi_subs == subs_) return;
  const bool removed = !counted || info.dlpi_subs != subs_;

  // A second walk inside the first one's callback: the lock is recursive, and the list cannot change between the two.
  raw_.clear();
  const bool had_left_out = std::exchange(has_left_out_, false);
  listed_ = 0;
  const auto give_up = [&] {
    has_left_out_ = has_left_out_ || had_left_out;
    no_memory(problem);
  };
  if (counted && !raw_.reserve(std::min<std::size_t>(info.dlpi_adds - info.dlpi_subs, 4096))) return give_up();
  const int failed = dl_iterate_phdr(
      [](dl_phdr_info *one, std::size_t, void *argument) {
        auto &table = *static_cast<ObjectTable *>(argument);
        const LoaderWatch::Load load = LoaderWatch::load_of(one->dlpi_addr, table.listed_++);
        table.has_left_out_ = table.has_left_out_ || load.is_going_on;
        if (load.is_going_on) return 0;
        const Raw raw = {one->dlpi_addr, one->dlpi_phdr, one->dlpi_phnum, one->dlpi_name, load.number};
        return table.raw_.push_back(raw) ? 0 : 1;
      },
      this);
  if (failed != 0 || !objects_.reserve(raw_.size()) || !previous_.reserve(raw_.size()) || !order_.reserve(raw_.size()))
    return give_up();

  const std::size_t startup = objects_.empty() ? 0 : startup_count();
  objects_.swap(previous_);
  objects_.clear();
  (void)objects_.reserve(raw_.size());
  std::size_t old = 0;
  for (std::size_t k = 0; k < raw_.size(); ++k) {
    if (startup == 0) ask_for_headers(k);
    // Both lists are in load order, so what stayed is met in the same order.
    std::size_t match = old;
    const auto is_same = [&](const Object &object) {
      return object.image.headers().data() == raw_[k].headers && object.image.base() == raw_[k].base &&
             (object.is_executable || std::strcmp(object.linked, raw_[k].path) == 0) &&
             (raw_[k].load == 0 || raw_[k].load == object.load);
    };
    while (match < previous_.size() && !is_same(previous_[match])) ++match;
    if (match == previous_.size()) {
      has_left_out_ = !add(raw_[k], k == 0, problem) || has_left_out_;  // it is tried again the next time
      continue;
    }
    for (; old < match; ++old) leave(previous_[old]);
    // After an unload the same file may lie at the same address anew: what was read from it then is not trusted.
    if (removed && match >= startup) {
      arena_.free(previous_[match].index);
      const Object &known = previous_[match];
      (void)add(raw_[k], false, problem);  // its name is known, so it needs no memory
      objects_.back().id = known.id;
      objects_.back().path = known.path;
      objects_.back().is_read_anew = true;
    } else {
      (void)objects_.push_back(previous_[match]);
    }
    old = match + 1;
  }
  for (; old < previous_.size(); ++old) leave(previous_[old]);
  previous_.clear();

  order_.set_size(objects_.size());
  for (std::uint32_t k = 0; k < objects_.size(); ++k) order_[k] = k;
  std::sort(order_.begin(), order_.end(),
            [&](std::uint32_t a, std::uint32_t b) { return objects_[a].image.low() < objects_[b].image.low(); });
  adds_ = info.dlpi_adds;
  subs_ = info.dlpi_subs;
  ++generation_;
}

/// Its record is dropped.
void ObjectTable::leave(Object &object) {
  arena_.free(object.index);
  has_lost_gone_ = !gone_.push_back({object.id, object.image.low(), object.image.high()}) || has_lost_gone_;
}

void ObjectTable::renew(Object &object) {
  has_lost_gone_ = !gone_.push_back({object.id, object.image.low(), object.image.high()}) || has_lost_gone_;
  object.id = next_id_++;
}

void ObjectTable::no_memory(Problem &problem) {
  problem.set(Code::out_of_memory, "no memory for the list of loaded objects");
}

/// Asks memory for what parse() will read first of the objects behind the k-th.
void ObjectTable::ask_for_headers(std::size_t k) const {
  constexpr std::size_t kFar = 6, kNear = 3, kLine = 64;
  asm volatile("");  // GCC takes a function that only prefetches for one that does nothing, and leaves out the calls
  const auto ask = [](std::uintptr_t begin, std::size_t size) {
    for (std::uintptr_t at = begin; at < begin + size; at += kLine)
      __builtin_prefetch(reinterpret_cast<const void *>(at));
  };
  if (k + kFar < raw_.size())
    ask(reinterpret_cast<std::uintptr_t>(raw_[k + kFar].headers), raw_[k + kFar].header_count * sizeof(Elf64_Phdr));
  if (k + kNear >= raw_.size()) return;
  const Raw &near = raw_[k + kNear];
  __builtin_prefetch(near.path);
  for (const Elf64_Phdr &header : std::span(near.headers, near.header_count))
    if (header.p_type == PT_DYNAMIC) ask(near.base + header.p_vaddr, std::min<std::size_t>(header.p_memsz, 10 * kLine));
}

bool ObjectTable::add(const Raw &raw, bool is_first, Problem &problem) {
  const char *path = is_first ? executable_path() : names_.intern(raw.path);
  if (path == nullptr || !objects_.push_back({})) {
    no_memory(problem);
    return false;
  }
  Object &object = objects_.back();
  object.id = next_id_++;
  object.load = raw.load;
  object.is_executable = is_first;  // dl_iterate_phdr begins with the program itself
  object.path = object.linked = path;
  Problem malformed;
  const std::span<const Elf64_Phdr> headers(raw.headers, raw.header_count);
  object.image = Image::parse(raw.base, headers, malformed);
  if (malformed) {
    // Keep where it lies, so that its addresses are still known to be its own.
    object.unreadable = names_.intern(malformed.message);
    if (object.unreadable == nullptr) object.unreadable = "malformed";
    object.image = Image::placed(raw.base, headers);
  } else {
    object.is_readable = true;
    object.soname = object.image.soname();
    object.is_vdso = object.contains(getauxval(AT_SYSINFO_EHDR));
    object.is_own = !is_first && object.contains(own_address());
  }
  return true;
}

const char *ObjectTable::executable_path() {
  char path[4096];
  const long size = sys::call(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", path, sizeof path - 1);
  path[size > 0 ? size : 0] = '\0';
  return names_.intern(size > 0 ? path : "(executable)");
}

Object *ObjectTable::at(std::uintptr_t address) {
  const std::uint32_t *above =
      std::upper_bound(order_.begin(), order_.end(), address,
                       [&](std::uintptr_t value, std::uint32_t k) { return value < objects_[k].image.low(); });
  // Objects do not overlap, but a hole of one may hold another: look a little further down.
  for (int steps = 0; above != order_.begin() && steps < 8; ++steps) {
    Object &object = objects_[*--above];
    if (object.contains(address)) return &object;
  }
  return nullptr;
}

void ObjectTable::call(std::uintptr_t address, const char *path) {
  Object *const object = at(address);
  const char *const name = object != nullptr ? names_.intern(path) : nullptr;
  if (name != nullptr) object->path = name;
}

Object *ObjectTable::with_id(ObjectId id) {
  // New objects come at the end of the list and get the next number, so it is sorted, unless a linker does otherwise.
  Object *near = std::lower_bound(objects_.begin(), objects_.end(), id,
                                  [](const Object &one, ObjectId value) { return one.id < value; });
  if (near != objects_.end() && near->id == id) return near;
  for (Object &object : in_load_order())
    if (object.id == id) return &object;
  return nullptr;
}

/// An object whose relocations lie is from now on one that cannot be read; no memory is a problem of the whole plan.
bool ObjectTable::index_failed(Object &object, const Problem &failed, Problem &problem) {
  if (failed.code != Code::image_malformed) {
    problem = failed;
    return false;
  }
  object.is_readable = false;
  object.unreadable = names_.intern(failed.message);
  if (object.unreadable == nullptr) object.unreadable = "malformed";
  return false;
}

std::size_t ObjectTable::position_of_needed(const char *name) const {
  for (std::size_t k = 0; k < objects_.size(); ++k)
    if (std::strcmp(objects_[k].soname, name) == 0 || std::strcmp(last_part(objects_[k].linked), name) == 0) return k;
  return objects_.size();
}

/// glibc lists what came with the program first: the program, what LD_PRELOAD names, then what those need, breadth first.
/// Objects loaded later follow. So the start-up objects are the shortest front part of the list that needs nothing behind it.
std::size_t ObjectTable::startup_count() {
  if (startup_count_ != 0) return startup_count_;
  std::size_t end = 1;
  for (std::size_t k = 0; k < end && k < objects_.size(); ++k) {
    for (std::size_t n = 0;; ++n) {
      const char *needed = objects_[k].image.needed(n);
      if (needed == nullptr) break;
      const std::size_t position = position_of_needed(needed);
      if (position < objects_.size()) end = std::max(end, position + 1);
    }
  }
  return startup_count_ = std::min(end, objects_.size());
}

}  // namespace shunt::core
