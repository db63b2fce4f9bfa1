// glob.hpp: `*` and `?` against a whole string. fnmatch() is not used: it reads the locale and may allocate, and this runs
// while the loader's lock is held.
#pragma once

namespace shunt::core {

/// Linear in the length of both but for backtracking to the last `*`, so never exponential.
constexpr bool glob_matches(const char *glob, const char *text) {
  const char *star = nullptr;
  const char *resume = nullptr;
  while (*text != '\0') {
    if (*glob == '*') {
      star = glob++;
      resume = text;
    } else if (*glob == '?' || *glob == *text) {
      ++glob;
      ++text;
    } else if (star != nullptr) {
      glob = star + 1;
      text = ++resume;
    } else {
      return false;
    }
  }
  while (*glob == '*') ++glob;
  return *glob == '\0';
}

static_assert(glob_matches("libc.so*", "libc.so.6") && !glob_matches("libc.so", "libc.so.6"));
static_assert(glob_matches("*", "") && glob_matches("a*b*c", "aXXbYYc") && !glob_matches("a?", "a"));

}  // namespace shunt::core
