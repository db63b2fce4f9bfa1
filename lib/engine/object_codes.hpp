// object_codes.hpp: what is known of the code of loaded objects, for entries. Kept from one transaction to the next while the
// object is loaded: which addresses its own code calls takes reading all of it (3 ms for a megabyte, on 2.6 MB of libcrypto) and a
// quarter of its size in memory. Names are read anew for each transaction that needs them, and dropped with it.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/loaded_patch.hpp"
#include "engine/outside.hpp"
#include "entry/entries.hpp"
#include "objects/functions.hpp"
#include "objects/object_code.hpp"

namespace shunt::core {

struct KnownCode {
  ObjectId id = 0;
  const char *path = "", *linked = "";
  std::uintptr_t base = 0;
  bool is_startup = false;            // came with the program, and is never unloaded
  bool is_gone = false;               // was unloaded
  const char *untouchable = nullptr;  // why none of its entries is redirected; static
  ObjectCode code;
  std::optional<ObjectFunctions> functions;  // read for this transaction
};

class ObjectCodes {
 public:
  /// The object whose code holds the address, if it is known. Whether it still is loaded is drop_gone()'s to see.
  [[nodiscard]] KnownCode *at(std::uintptr_t address) const;
  /// The object that an address lies in, code or not.
  [[nodiscard]] KnownCode *around(std::uintptr_t address) const;
  [[nodiscard]] KnownCode *with_id(ObjectId id) const;
  /// Only inside ObjectTable::while_locked(): fills `fresh` in from the object. Takes nothing from malloc.
  static void describe(ObjectTable &objects, const Object &object, std::span<const LoadedPatch> patches,
                       KnownCode &fresh);
  KnownCode *add(std::unique_ptr<KnownCode> fresh);
  /// Only inside ObjectTable::while_locked(): looks which objects were unloaded.
  void mark_gone(ObjectTable &objects);
  /// Not there: they are not known any more. Calls `visit(code)` for each.
  template <class Visit>
  void drop_gone(Visit visit) {
    std::erase_if(all_, [&](const std::unique_ptr<KnownCode> &one) {
      if (one->is_gone) visit(*one);
      return one->is_gone;
    });
  }
  void drop_names() {
    for (const auto &one : all_) one->functions.reset();
  }
  [[nodiscard]] std::vector<KnownCode *> all() const {
    std::vector<KnownCode *> known;
    for (const auto &one : all_) known.push_back(one.get());
    return known;
  }
  [[nodiscard]] bool is_empty() const { return all_.empty(); }

 private:
  std::vector<std::unique_ptr<KnownCode>> all_;
};

/// Reads code for one transaction. With the engine held and the loader's lock not.
class CodeReader {
 public:
  CodeReader(ObjectTable &objects, ObjectCodes &codes, std::span<const LoadedPatch> patches, Outside &outside)
      : objects_(objects), codes_(codes), patches_(patches), outside_(outside) {}

  /// The object whose code holds the address; NULL when there is none.
  KnownCode *code_at(std::uintptr_t function, Problem &problem);
  /// All loaded objects. False on a Problem.
  bool know_all(Problem &problem);
  [[nodiscard]] std::vector<KnownCode *> all() const { return codes_.all(); }
  /// Its memory stays while this transaction is worked on. False as well when `outside` is wanting.
  bool can_read(const KnownCode &code);
  /// NULL on a Problem, and when it was unloaded. can_read() comes first.
  ObjectFunctions *functions_of(KnownCode &code, Problem &problem);
  /// What Entries::prepare() is to be told of a function of that object. False on a Problem, or when `outside` is wanting.
  bool describe(std::uintptr_t function, ObjectId object, FunctionDescription &description, Problem &problem);

 private:
  ObjectTable &objects_;
  ObjectCodes &codes_;
  std::span<const LoadedPatch> patches_;
  Outside &outside_;
  KnownCode *last_ = nullptr;  // that was asked for last
  bool knows_all_ = false;
};

/// The process's unwinder. Only inside ObjectTable::while_locked().
Unwinder find_unwinder(ObjectTable &objects);

}  // namespace shunt::core
