// inlined_unknown.cpp: in place of inlined.cpp where the command is built without libdw.
#include "cli/inlined.hpp"

namespace shunt::cli {

bool find_inlined(int, const std::vector<std::string> &, std::map<std::string, InlinedCopies> &, std::string &why) {
  why = "is not looked at: this command was built without libdw (package libdw-dev)";
  return false;
}

}  // namespace shunt::cli
