// inlined.hpp: where a compiler put copies of a function into its callers. No redirect reaches those: the only one who knows of them
// is the debug information (DWARF 5, 3.3.8 "Inlinable and Inlined Subroutines"), which libdw reads. It is an optional part of
// the command, and never in a server's process.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace shunt::cli {

struct InlinedCopies {
  std::size_t count = 0;
  std::vector<std::string>
      sites;  // "rules.cpp:12", where the calls were written; each once, in order, kMaximumSites at most
  static constexpr std::size_t kMaximumSites = 1000;
};

/// Looks for copies of the functions `wanted` ("file.cpp:name" is the one of that source), as the linker calls them, in the debug
/// information of the file behind `fd`. Those of which there is none are left out. False, and the end of a sentence in `why`
/// ("has no debug information"), when it cannot be told.
bool find_inlined(int fd, const std::vector<std::string> &wanted, std::map<std::string, InlinedCopies> &copies,
                  std::string &why);

}  // namespace shunt::cli
