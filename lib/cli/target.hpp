// target.hpp: what the user named: a process by number or name, or a file.
#pragma once

#include <string>

#include "cli/console.hpp"
#include "cli/processes.hpp"
#include "elf/file.hpp"

namespace shunt::cli {

/// Digits are a process; what has a `/` or exists as a file is a file; anything else is the name of a process.
bool is_file(const std::string &word);

/// The one process of that number or name. Where forked children have the name as well, it is the one they come from.
/// Throws Failure: no such process (unreachable), several of the name (usage).
Process find_process(const std::string &word);

/// Throws Failure where the file cannot be read (usage) or is nothing that can be looked at (no).
core::ElfFile read_elf(const std::string &path);

}  // namespace shunt::cli
