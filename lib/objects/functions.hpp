// functions.hpp: the functions of one object, by name and by address; what a plan of an entry redirect has to know of each.
//
// Names come from the object's .dynsym, which lies in memory, and from .symtab, which is in its file, or in a separate debug file
// when it was stripped (elf/debug_file.hpp). The file on disk is used only when it is the one that is mapped (own_file.hpp).
// Otherwise the names of .dynsym are all there are, and where_names_came_from() says so.
//
// What is no function here:
//   IFUNC symbols: their address is a resolver's. What it chooses has names of its own.
//   Labels (NOTYPE): nothing says where the code behind one ends, nor that it is called: most are targets of jumps inside functions
//   written in assembler. Such code is redirected by the name of the function around it. A label does end the padding before it.
//
// What compilers make of a name:
//   f.lto_priv.0, f.llvm.123  the same function, renamed by link-time optimization since another file has one of that name:
//                 asking for f finds it.
//   f.localalias  a second name of f for calls inside the object: not counted as an alias.
//   f.cold        a part of f that lies elsewhere: no function of its own.
//   f.constprop.0, f.isra.0, f.part.0  a copy of f, or a part of it, with another signature: asking for f does not find it. clones_of()
//                 does, so that it can be said that such calls do not come to f.
//
// Cost, measured: 200,000 functions with names of 75 characters take 22 MB, are read in 70 ms, and a name among them is found in
// 0.2 ms; libc's 6,400 take 0.5 MB, 2 ms and 4 us. Nothing is sorted by name, since few names are asked for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/page_vector.hpp"
#include "base/result.hpp"
#include "elf/debug_file.hpp"
#include "objects/object_code.hpp"
#include "objects/object_table.hpp"

namespace shunt::core {

/// What somebody asks for: "name", or "file.cpp:name" for the one of that source file.
struct AskedFunction {
  std::string_view source, name;  // source: "" any

  explicit AskedFunction(std::string_view text);
  /// Whether a source file, named as the compiler was given it, is the one that is meant: "src/rules.cpp" is "/build/src/rules.cpp".
  [[nodiscard]] bool is_source(std::string_view path) const;
};

/// One name of one function. The texts live as long as the ObjectFunctions.
struct FunctionName {
  const char *name = "";
  const char *source = "";  // the source file of a static function, as the compiler was given it; "" unknown
  std::uintptr_t address = 0;
  std::size_t size = 0;  // 0: the symbol does not say
  bool is_exported = false;
};

/// What is copied of a loaded object while the loader's lock is held. From then on it may be unloaded.
class ObjectFacts {
 public:
  /// Takes nothing from malloc: may be called inside ObjectTable::while_locked(). Errors: out_of_memory.
  static bool copy(const Object &object, ObjectFacts &facts, Problem &problem);
  /// Of a file that is not loaded. `path` must outlive this.
  static bool copy(const Image &image, const char *path, ObjectFacts &facts, Problem &problem);

 private:
  friend class ObjectFunctions;

  struct Segment {
    std::uintptr_t begin;
    std::size_t size;
  };
  struct Symbol {
    std::uintptr_t address;
    std::uint64_t size;
    std::uint32_t name;  // in names_
    bool is_function;
  };
  bool add(const Image &image, const Elf64_Sym &symbol);

  const char *path_ = "";
  bool is_loaded_ = false, is_executable_ = false;
  std::uintptr_t base_ = 0, low_ = 0;
  PageVector<Segment> code_;
  PageVector<Symbol> symbols_;  // of .dynsym
  PageVector<char> names_;
  std::uint8_t build_id_[64] = {};
  std::size_t build_id_size_ = 0;
};

/// What a plan of one function is made of. It refers to the object's memory, and to the ObjectCode that it was made with.
struct FunctionDescription {
  arch::Function function;  // its spans lie in `parts` and in the ObjectCode
  CallFrame frame;
  bool has_frame = false;
  std::vector<arch::Bytes> parts;

  FunctionDescription() = default;
  FunctionDescription(FunctionDescription &&) = default;
  FunctionDescription &operator=(FunctionDescription &&) = default;
};

class ObjectFunctions {
 public:
  /// Reads files: not while the loader's lock is held. A file that cannot be used is no error (see is_complete()).
  /// Errors: out_of_memory.
  static Result<ObjectFunctions> read(const ObjectFacts &facts, const char *debug_root = kDebugRoot);

  /// All functions of that name (of .symtab: several static ones may have it). "file.cpp:name" is the one of that source file,
  /// which may be given with as many of its folders as the compiler was given. The name of a C++ function that is not static, as a
  /// patch exports it, means the static one of that name where there is no other.
  [[nodiscard]] std::vector<FunctionName> named(std::string_view name) const;
  /// All names of the function that begins at `address`: aliases, and functions that the linker folded since their code is the same.
  [[nodiscard]] std::vector<FunctionName> at(std::uintptr_t address) const;
  /// The function that holds `address`.
  [[nodiscard]] std::optional<FunctionName> holding(std::uintptr_t address) const;
  /// Copies and parts of `name` with another signature (f.constprop.0), which are functions of their own.
  [[nodiscard]] std::vector<FunctionName> clones_of(std::string_view name) const;
  /// Calls `visit(FunctionName)` for all, by address.
  template <class Visit>
  void for_each(Visit visit) const {
    for (const Item &item : items_)
      if (is_function(item)) visit(name_of(item));
  }

  /// All functions that the linker saw are known, static ones too.
  [[nodiscard]] bool is_complete() const { return is_complete_; }
  /// "the symbol table of PATH", "the debug file PATH", or "the dynamic symbol table only, … (why)".
  [[nodiscard]] const char *where_names_came_from() const { return origin_.c_str(); }

  /// What is known of the function that begins at `address`: its body by its symbol's size; by .eh_frame where the symbol says 0
  /// or there is none. The object must be loaded. `code` is its, and must outlive the description.
  /// Errors: unknown_symbol (no function begins there; the message says in which one it lies).
  Result<FunctionDescription> describe(std::uintptr_t address, ObjectCode &code) const;

  /// Memory that the names take.
  [[nodiscard]] std::size_t bytes_used() const;

 private:
  enum Kind : std::uint32_t { kFunction, kExported, kCold, kOther };
  /// One symbol. 20 bytes, since there may be hundreds of thousands.
  struct Item {
    std::uint32_t offset, size;  // from low_
    std::uint32_t name : 30;
    Kind kind : 2;
    std::uint32_t source;
    std::uint32_t hash;  // of the name up to its first suffix
  };
  class Builder;

  static bool is_function(const Item &item) { return item.kind <= kExported; }
  [[nodiscard]] FunctionName name_of(const Item &item) const;
  [[nodiscard]] const Item *first_at(std::uintptr_t address) const;
  template <class Take>
  [[nodiscard]] std::vector<FunctionName> with_stem(std::string_view text, Take take) const;
  void add_cold_parts(std::uintptr_t address, const ObjectCode &code, std::vector<arch::Bytes> &parts) const;
  void find_padding(const ObjectCode &code, arch::Function &function) const;

  std::uintptr_t low_ = 0;
  PageVector<Item> items_;  // by address, exported names first
  PageVector<char> texts_;  // names and sources
  bool is_complete_ = false;
  std::string origin_;
};

}  // namespace shunt::core
