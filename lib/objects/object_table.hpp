// object_table.hpp: the loaded objects of this process, kept in step with the dynamic linker.
//
// Work on objects happens inside while_locked(): the loader's lock is held there (by running in a dl_iterate_phdr callback),
// so no object is unmapped under our hands. What must NOT be called there: malloc and everything that may call it, and
// anything that waits for another thread. A replaced malloc may hold its own lock and wait for the loader's, for example to
// take a backtrace; that would be a deadlock (e12).
//
// dl_iterate_phdr reports counters of objects added and removed, so that nothing is read anew while they stand still. It also
// reports objects that another thread is loading and that are not relocated yet: where loads are watched (loader_watch.hpp), those
// come into this list when they are.
#pragma once

#include <link.h>

#include <cstdint>
#include <span>
#include <utility>

#include "base/error.hpp"
#include "base/page_vector.hpp"
#include "elf/image.hpp"
#include "objects/import_index.hpp"
#include "objects/interner.hpp"

namespace shunt::core {

/// Names one loading of an object: the same file loaded again has another one, as far as that can be told.
using ObjectId = std::uint64_t;

struct Object {
  ObjectId id = 0;
  const char *path = "";    // interned; of the executable: its file; of a patch: the file that it was read from
  const char *linked = "";  // interned; what the dynamic linker calls it, another name than `path` where it is a patch
  const char *soname = "";  // lies in the image
  std::uint64_t load = 0;   // LoaderWatch's number of its load; 0: it was there before, or nobody watched
  Image image;
  ImportIndex index;           // built on first use
  bool is_executable = false;  // of the program itself
  bool is_own = false;         // shunt's own shared library
  bool is_vdso = false;        // the kernel's; libc finds its functions in its own way, the dynamic linker never
  bool is_readable = false;    // image could be parsed
  bool is_read_anew =
      false;  // something was unloaded: it may be another loading, at the same place, that nobody told of
  const char *unreadable = "";  // why not; static

  [[nodiscard]] bool contains(std::uintptr_t address) const { return image.segment_at(address) != nullptr; }
  /// Does the glob match the soname, the path, or the last part of the path?
  [[nodiscard]] bool matches(const char *glob) const;
};

/// An object that is in the list no more.
struct GoneObject {
  ObjectId id = 0;
  std::uintptr_t low = 0, high = 0;
};

class ObjectTable {
 public:
  /// Runs `work(problem)` with the loader's lock held and the table up to date. When the table cannot be brought up to
  /// date, `work` is not run and the problem says why.
  template <class Work>
  void while_locked(Problem &problem, Work work) {
    locked(
        problem, [](void *context, Problem &p) { (*static_cast<Work *>(context))(p); }, &work);
  }

  // All of these only inside while_locked().
  [[nodiscard]] std::span<Object> in_load_order() { return {objects_.data(), objects_.size()}; }
  [[nodiscard]] std::span<const std::uint32_t> by_address() const { return {order_.data(), order_.size()}; }
  Object &operator[](std::size_t position) { return objects_[position]; }
  /// The object that holds an address, or NULL.
  Object *at(std::uintptr_t address);
  Object *with_id(ObjectId id);
  /// The object is another loading than was thought: it gets an id of its own, and the one that it had is gone.
  void renew(Object &object);
  /// Calls `visit(gone)` for the objects that have left the list since this was called last. False, and none is visited, when there
  /// was no memory to note them.
  template <class Visit>
  bool take_gone(Visit visit) {
    for (const GoneObject &one : gone_)
      if (!has_lost_gone_) visit(one);
    gone_.clear();
    return !std::exchange(has_lost_gone_, false);
  }
  /// Builds the object's index if that has not been done, and calls `visit(hash, relocation, name)` for each of its entries
  /// then whose hash may be `asked` for. `next`, if there is one, is the object whose turn comes after. False (with the reason in
  /// `unreadable`) when it cannot be built.
  template <class Visit>
  bool have_index(Object &object, const Object *next, const HashSet &asked, Visit visit, Problem &problem) {
    if (!object.is_readable || object.index.is_built) return object.is_readable;
    const bool is_needed = next != nullptr && next->is_readable && !next->index.is_built;
    Problem failed;
    object.index = arena_.build(object.image, is_needed ? &next->image : nullptr, asked, visit, failed);
    return !failed || index_failed(object, failed, problem);
  }
  bool have_index(Object &object, Problem &problem) {
    static constexpr HashSet kNone;
    return have_index(
        object, nullptr, kNone, [](IndexHash, Image::RelocationRef, const char *) {}, problem);
  }
  /// What the object that holds the address is called from now on. Nothing changes where there is no memory for the name.
  void call(std::uintptr_t address, const char *path);
  /// How many objects, counted in load order, came with the program and are never unloaded.
  std::size_t startup_count();
  /// The position of an object that DT_NEEDED names, or the number of objects.
  [[nodiscard]] std::size_t position_of_needed(const char *name) const;

  /// Memory that the indexes take now.
  [[nodiscard]] std::size_t index_bytes() const { return arena_.bytes_used(); }
  /// Objects that come into this list from now on have this id or a higher one.
  [[nodiscard]] ObjectId next_id() const { return next_id_; }
  /// Changes whenever an object was loaded or unloaded.
  [[nodiscard]] std::uint64_t generation() const { return generation_; }

 private:
  struct Raw {
    std::uintptr_t base;
    const Elf64_Phdr *headers;
    std::uint32_t header_count;
    const char *path;
    std::uint64_t load;
  };
  using Entry = void (*)(void *context, Problem &problem);
  void locked(Problem &problem, Entry work, void *context);
  void refresh(const dl_phdr_info &info, std::size_t info_size, Problem &problem);
  void ask_for_headers(std::size_t k) const;
  bool add(const Raw &raw, bool is_first, Problem &problem);
  void leave(Object &object);
  static void no_memory(Problem &problem);
  bool index_failed(Object &object, const Problem &failed, Problem &problem);
  const char *executable_path();

  PageVector<Object> objects_, previous_;
  PageVector<std::uint32_t> order_;
  PageVector<Raw> raw_;
  PageVector<GoneObject> gone_;
  IndexArena arena_;
  Interner names_;
  std::uint64_t adds_ = 0, subs_ = 0, generation_ = 0;
  ObjectId next_id_ = 1;
  std::size_t startup_count_ = 0;
  std::size_t listed_ = 0;     // while the list is read: how many it had so far
  bool has_left_out_ = false;  // objects that are being loaded
  bool has_lost_gone_ = false;
};

}  // namespace shunt::core
