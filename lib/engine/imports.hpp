// imports.hpp: what the loaded objects import and where it leads, as a list that may outlive them. It is filled with the
// loader's lock held, so it takes its memory in pages of its own.
#pragma once

#include <string>
#include <vector>

#include "engine/plan.hpp"
#include "objects/object_table.hpp"

namespace shunt::core {

/// The slots of one object for one symbol that hold the same.
struct ImportRow {
  enum class State : std::uint8_t { bound, lazy, absent };
  std::uint32_t object;           // in ImportList::objects
  std::uint32_t symbol, version;  // in ImportList::text
  std::uint32_t slots;
  const char *leads_to;  // path of the object that the value lies in, interned; "" none
  State state;
  std::uint8_t kinds;  // bits: 1 << RelocKind
};

struct ImportObject {
  const char *path;      // interned
  std::uint32_t soname;  // in ImportList::text
  std::uint8_t build_id_size;
  std::uint8_t build_id[64];
};

struct ImportList {
  PageVector<ImportObject> objects;  // that have a row
  PageVector<ImportRow> rows;        // object by object
  PageVector<UnreadObject> unread;
  PageVector<char> text;

  [[nodiscard]] const char *string(std::uint32_t offset) const { return text.data() + offset; }

  /// Only inside ObjectTable::while_locked(). Empty lists of globs match everything.
  void fill(ObjectTable &table, const std::vector<std::string> &symbols, const std::vector<std::string> &callers,
            Problem &problem);
};

}  // namespace shunt::core
