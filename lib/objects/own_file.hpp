// own_file.hpp: the file that a loaded object was mapped from, if it still is there.
#pragma once

#include <span>
#include <string>

#include "elf/symbol_file.hpp"

namespace shunt::core {

struct OwnFileQuestion {
  const char *path;
  bool is_loaded;  // the object is mapped in this process; otherwise the path is all there is
  bool is_executable;
  std::uintptr_t low;  // the object's lowest address
  std::span<const std::uint8_t> build_id;
};

/// Opens it. It must be the very file that is mapped, by device and inode; or one with the object's build-id, if nobody may write
/// it who may not change this process. False, and the end of a sentence in `why`.
bool open_own_file(const OwnFileQuestion &question, SymbolFile &file, std::string &why);

}  // namespace shunt::core
