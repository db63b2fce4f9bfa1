#include "engine/request.hpp"

#include <algorithm>

namespace shunt::core {
namespace {

bool any_matches(const std::vector<std::string> &globs, const Object &object) {
  return std::any_of(globs.begin(), globs.end(), [&](const std::string &glob) { return object.matches(glob.c_str()); });
}

}  // namespace

const char *reach_name(Reach reach) {
  switch (reach) {
    case Reach::automatic:
      return "auto";
    case Reach::slots:
      return "slots";
    case Reach::entry:
      return "entry";
  }
  return "";
}

bool CallerFilter::chooses(const Object &object) const {
  if (object.is_own || is_patch(object)) return false;
  if (inside != 0 && !object.contains(inside)) return false;
  if (!callers.empty() && !any_matches(callers, object)) return false;
  return !any_matches(not_callers, object);
}

bool CallerFilter::names(const Object &object) const {
  return chooses(object) && (inside != 0 || std::any_of(callers.begin(), callers.end(), [&](const std::string &glob) {
                               return glob != "*" && object.matches(glob.c_str());
                             }));
}

}  // namespace shunt::core
