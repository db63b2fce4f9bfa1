#include "cli/inlined.hpp"

#include <dwarf.h>
#include <elfutils/libdw.h>

#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_map>

#include "cli/names.hpp"
#include "objects/functions.hpp"

namespace shunt::cli {
namespace {

struct DwarfEnd {
  void operator()(Dwarf *dwarf) const { dwarf_end(dwarf); }
};

/// Nested deeper than any compiler writes: the file lies.
constexpr int kMaximumDepth = 512;

/// A function that is looked for.
struct Wanted {
  core::AskedFunction asked;
  std::string written;  // as it is written in C++: "(anonymous namespace)::hidden(int)"

  explicit Wanted(const std::string &text) : asked(text), written(demangled(std::string(asked.name))) {}
  /// For functions of C, and for static ones of C++, which have no linker's name there. Namespaces are not compared.
  [[nodiscard]] bool is_called(std::string_view name) const {
    if (asked.name == name) return true;
    const std::size_t at = written.find(std::string(name) + '(');
    return at != std::string::npos && (at == 0 || written[at - 1] == ' ' || written[at - 1] == ':');
  }
};

class Walk {
 public:
  explicit Walk(const std::vector<std::string> &wanted) : found_(wanted.size()) {
    for (const std::string &one : wanted) wanted_.emplace_back(one);
  }

  void visit_unit(Dwarf_Die unit) {
    files_ = nullptr;
    if (dwarf_getsrcfiles(&unit, &files_, &file_count_) != 0) files_ = nullptr;
    visit_children(unit, 0);
  }

  /// Of the k-th of those that are wanted.
  [[nodiscard]] InlinedCopies copies(std::size_t k) const {
    InlinedCopies copies;
    copies.count = found_[k].count;
    for (const auto &[file, line] : found_[k].sites) copies.sites.push_back(file + ':' + std::to_string(line));
    return copies;
  }

 private:
  using Site = std::pair<std::string, Dwarf_Word>;  // file and line
  struct Found {
    std::size_t count = 0;
    std::set<Site> sites;
  };

  void visit_children(Dwarf_Die &parent, int depth) {
    Dwarf_Die die;
    if (depth > kMaximumDepth || dwarf_child(&parent, &die) != 0) return;
    do {
      if (dwarf_tag(&die) == DW_TAG_inlined_subroutine && has_code(die)) note(die);
      visit_children(die, depth + 1);
    } while (dwarf_siblingof(&die, &die) == 0);
  }

  /// What only says how a function looks, wherever it is put, has none; nor has a copy of which nothing was left.
  static bool has_code(Dwarf_Die &die) {
    return dwarf_hasattr(&die, DW_AT_low_pc) != 0 || dwarf_hasattr(&die, DW_AT_ranges) != 0 ||
           dwarf_hasattr(&die, DW_AT_entry_pc) != 0;
  }

  void note(Dwarf_Die &die) {
    Dwarf_Attribute attribute;
    Dwarf_Die origin;
    if (dwarf_attr(&die, DW_AT_abstract_origin, &attribute) == nullptr ||
        dwarf_formref_die(&attribute, &origin) == nullptr)
      return;
    for (const std::size_t k : asked_for(origin)) {
      Found &found = found_[k];
      ++found.count;
      if (found.sites.size() < InlinedCopies::kMaximumSites) found.sites.insert(site_of(die));
    }
  }

  /// Which of the wanted functions this is. One function is often put into many, so the answer is kept.
  const std::vector<std::size_t> &asked_for(Dwarf_Die &origin) {
    const auto [known, is_new] = origins_.try_emplace(origin.addr);
    if (is_new)
      for (std::size_t k = 0; k < wanted_.size(); ++k)
        if (is(origin, wanted_[k])) known->second.push_back(k);
    return known->second;
  }

  static bool is(Dwarf_Die &origin, const Wanted &wanted) {
    Dwarf_Attribute attribute;
    const char *linked = dwarf_formstring(dwarf_attr_integrate(&origin, DW_AT_linkage_name, &attribute));
    const char *name = dwarf_diename(&origin), *source = dwarf_decl_file(&origin);
    const bool is_named = linked != nullptr ? wanted.asked.name == linked : name != nullptr && wanted.is_called(name);
    return is_named && (wanted.asked.source.empty() || (source != nullptr && wanted.asked.is_source(source)));
  }

  Site site_of(Dwarf_Die &die) const {
    const std::optional<Dwarf_Word> file = number(die, DW_AT_call_file), line = number(die, DW_AT_call_line);
    const char *name =
        files_ != nullptr && file && *file < file_count_ ? dwarf_filesrc(files_, *file, nullptr, nullptr) : nullptr;
    const std::string_view path = name != nullptr ? name : "?";
    return {std::string(path.substr(path.rfind('/') + 1)), line.value_or(0)};
  }

  static std::optional<Dwarf_Word> number(Dwarf_Die &die, unsigned name) {
    Dwarf_Attribute attribute;
    Dwarf_Word value = 0;
    if (dwarf_attr(&die, name, &attribute) == nullptr || dwarf_formudata(&attribute, &value) != 0) return std::nullopt;
    return value;
  }

  std::vector<Wanted> wanted_;
  std::vector<Found> found_;
  std::unordered_map<const void *, std::vector<std::size_t>> origins_;
  Dwarf_Files *files_ = nullptr;  // of the unit
  std::size_t file_count_ = 0;
};

}  // namespace

bool find_inlined(int fd, const std::vector<std::string> &wanted, std::map<std::string, InlinedCopies> &copies,
                  std::string &why) {
  const std::unique_ptr<Dwarf, DwarfEnd> dwarf(dwarf_begin(fd, DWARF_C_READ));
  Dwarf_CU *unit = nullptr;
  Dwarf_Die die, split;
  std::uint8_t kind = 0;
  bool has_units = false;
  Walk walk(wanted);
  while (dwarf != nullptr && dwarf_get_units(dwarf.get(), unit, &unit, nullptr, &kind, &die, &split) == 0) {
    has_units = true;
    if (kind == DW_UT_skeleton && split.cu == nullptr) {
      why = "has debug information in .dwo files that are not there";
      return false;
    }
    walk.visit_unit(kind == DW_UT_skeleton ? split : die);
  }
  if (!has_units) why = "has no debug information";
  for (std::size_t k = 0; k < wanted.size(); ++k)
    if (InlinedCopies found = walk.copies(k); found.count > 0) copies[wanted[k]] = std::move(found);
  return has_units;
}

}  // namespace shunt::cli
