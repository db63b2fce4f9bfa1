// entries.hpp: what could be done at the entries of the functions of a file that nobody runs. The file is laid out in memory as the
// dynamic linker would, and planned with the very code that plans in a process.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cli/inlined.hpp"
#include "elf/file.hpp"
#include "elf/file_image.hpp"
#include "objects/functions.hpp"

namespace shunt::cli {

/// A function's entry in a file. The fields are those of a plan's entry in docs/control.md, and what only files tell.
struct OfflineEntry {
  bool is_chosen = false;
  bool is_needed = true;  // false: slots reach all calls
  std::string why;        // it is chosen, or not: "nobody calls it through a slot", "is 3 bytes long ..."
  std::string path, name, source, form, names_from;
  std::uint64_t address = 0, size = 0;  // as the file has them
  std::vector<std::string> names;       // all that the address has
  std::vector<std::string> clones;      // copies with another signature
  std::size_t cold_parts = 0;           // parts of it that lie elsewhere
};

/// An address as it is shown.
std::string hexadecimal(std::uint64_t number);

/// The functions of one file.
class FileFunctions {
 public:
  /// A file that cannot be looked at has no functions, and unreadable() says why.
  explicit FileFunctions(const core::ElfFile &file);

  /// The end of a sentence; "" for one that can be looked at.
  [[nodiscard]] const std::string &unreadable() const { return unreadable_; }
  [[nodiscard]] std::vector<core::FunctionName> named(const std::string &name) const;
  /// Code of the file calls it directly or takes its address, or seems to. False when that cannot be told, and for an address that data
  /// hold: the dynamic linker puts most of those there.
  [[nodiscard]] bool is_called_inside(std::uintptr_t function);
  /// Plans the entry; names in `also` are accepted as further names of it. `is_chosen`: it can be redirected; else `why` says
  /// why not.
  OfflineEntry entry_of(const core::FunctionName &function, const std::vector<std::string> &also);
  /// Its address as the file has it.
  [[nodiscard]] std::uint64_t address_in_file(std::uintptr_t address) const { return address - image_->image().base(); }
  template <class Visit>
  void for_each(Visit visit) const {
    functions_.for_each(visit);
  }
  [[nodiscard]] std::vector<core::FunctionName> clones_of(const std::string &name) const {
    return functions_.clones_of(name);
  }
  [[nodiscard]] const std::string &path() const { return path_; }
  [[nodiscard]] bool has_all_names() const { return functions_.is_complete(); }
  [[nodiscard]] const char *names_from() const { return functions_.where_names_came_from(); }

 private:
  std::string path_, unreadable_;
  std::unique_ptr<core::FileImage> image_;
  core::ObjectFunctions functions_;
  core::ObjectCode code_;
};

/// find_inlined() in a file or, when it has no debug information, in its debug file.
bool find_inlined_in(const std::string &path, const std::vector<std::string> &wanted,
                     std::map<std::string, InlinedCopies> &copies, std::string &why);

}  // namespace shunt::cli
