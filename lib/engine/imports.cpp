#include "engine/imports.hpp"

#include <algorithm>

#include "base/glob.hpp"
#include "memory/write_window.hpp"

namespace shunt::core {
namespace {

/// One relocation, as it is met; sorted, those of a symbol lie together.
struct Met {
  std::uint32_t symbol;
  arch::RelocKind kind;
  std::uintptr_t value;
};

class Filler {
 public:
  Filler(ImportList &list, ObjectTable &table, const std::vector<std::string> &symbols)
      : list_(list), table_(table), symbols_(symbols) {}

  /// False when there is no memory.
  bool fill(Object &object) {
    met_.clear();
    const ImportIndex &index = object.index;
    for (std::uint32_t r = 0; r < index.run_count; ++r)
      for (std::uint32_t k = 0; k < index.runs[r].count; ++k)
        if (!meet(object.image, index.runs[r].first + k)) return false;
    std::sort(met_.begin(), met_.end(), [](const Met &a, const Met &b) {
      return a.symbol != b.symbol ? a.symbol < b.symbol : a.value < b.value;
    });
    if (met_.empty()) return true;
    if (!add_object(object)) return false;
    for (std::size_t first = 0; first < met_.size();) {
      std::size_t end = first;
      while (end < met_.size() && met_[end].symbol == met_[first].symbol && met_[end].value == met_[first].value) ++end;
      if (!add_row(object, first, end)) return false;
      first = end;
    }
    return true;
  }

 private:
  bool meet(const Image &image, Image::RelocationRef reference) {
    const Relocation relocation = image.relocation(reference);
    if (relocation.place % sizeof(std::uintptr_t) != 0 || !image.is_data(relocation.place)) return true;
    const char *name = image.symbol_name(relocation.symbol);
    const bool is_asked =
        symbols_.empty() || std::any_of(symbols_.begin(), symbols_.end(),
                                        [&](const std::string &glob) { return glob_matches(glob.c_str(), name); });
    return !is_asked || met_.push_back({relocation.symbol, relocation.kind, load_word(relocation.place)});
  }

  bool add_text(const char *text, std::uint32_t &offset) {
    const std::size_t size = std::strlen(text) + 1;
    offset = static_cast<std::uint32_t>(list_.text.size());
    if (!list_.text.reserve(offset + size)) return false;
    std::memcpy(list_.text.data() + offset, text, size);
    list_.text.set_size(offset + size);
    return true;
  }

  bool add_object(const Object &object) {
    ImportObject one{object.path, 0, 0, {}};
    const std::span<const std::uint8_t> build_id = object.image.build_id();
    one.build_id_size = static_cast<std::uint8_t>(std::min(build_id.size(), sizeof one.build_id));
    std::copy_n(build_id.begin(), one.build_id_size, one.build_id);
    return add_text(object.soname, one.soname) && list_.objects.push_back(one);
  }

  bool add_row(const Object &object, std::size_t first, std::size_t end) {
    const Image &image = object.image;
    const std::uintptr_t value = met_[first].value;
    ImportRow row{};
    row.object = static_cast<std::uint32_t>(list_.objects.size() - 1);
    row.slots = static_cast<std::uint32_t>(end - first);
    bool has_jump_slot_only = true;
    for (std::size_t k = first; k < end; ++k) {
      row.kinds |= static_cast<std::uint8_t>(1U << static_cast<unsigned>(met_[k].kind));
      has_jump_slot_only = has_jump_slot_only && met_[k].kind == arch::RelocKind::jump_slot;
    }
    const Object *holder = table_.at(value);
    row.leads_to = holder != nullptr ? holder->path : "";
    row.state = ImportRow::State::bound;
    if (value == 0)
      row.state = ImportRow::State::absent;
    else if (has_jump_slot_only && holder == &object && image.is_code(value) &&
             !is_defined(image.symbol(met_[first].symbol)))
      row.state = ImportRow::State::lazy;
    if (row.state == ImportRow::State::lazy) row.leads_to = "";
    const char *version = needed_version(image, met_[first].symbol);
    return add_text(image.symbol_name(met_[first].symbol), row.symbol) &&
           add_text(version != nullptr ? version : "", row.version) && list_.rows.push_back(row);
  }

  ImportList &list_;
  ObjectTable &table_;
  const std::vector<std::string> &symbols_;
  PageVector<Met> met_;
};

}  // namespace

void ImportList::fill(ObjectTable &table, const std::vector<std::string> &symbols,
                      const std::vector<std::string> &callers, Problem &problem) {
  Filler filler(*this, table, symbols);
  const auto is_caller = [&](const Object &object) {
    return callers.empty() || std::any_of(callers.begin(), callers.end(),
                                          [&](const std::string &glob) { return object.matches(glob.c_str()); });
  };
  for (Object &object : table.in_load_order()) {
    if (object.is_own || !is_caller(object)) continue;
    bool has_memory = true;
    if (table.have_index(object, problem))
      has_memory = filler.fill(object);
    else if (problem)
      return;
    else
      has_memory = unread.push_back({object.path, object.unreadable});
    if (!has_memory) return problem.set(Code::out_of_memory, "no memory for a list of %zu imports", rows.size());
  }
}

}  // namespace shunt::core
