// calls.hpp: what every function of shunt.h does with its arguments and its errors.
#pragma once

#include <shunt/shunt.h>

#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "api/handles.hpp"

namespace shunt::api {

/// The error that says that there was no memory for an error.
shunt_error *no_memory();

/// Puts an error into *out, if out is not NULL. Answers its code.
shunt_code fail(shunt_error **out, core::Error error);

/// Runs `work()`, which answers a code, with *error cleared before and running out of memory told as an error.
template <class Work>
shunt_code guarded(shunt_error **error, Work work) {
  if (error != nullptr) *error = nullptr;
  try {
    return work();
  } catch (const std::bad_alloc &) {
    if (error != nullptr) *error = no_memory();
    return SHUNT_E_out_of_memory;
  }
}

/// The options of this or an earlier version of the header: what a shorter struct does not have is 0.
template <class Options>
bool read_options(const Options *given, Options &options) {
  options = Options{};
  if (given == nullptr) return true;
  if (given->size < sizeof given->size || given->size > sizeof options) return false;
  std::memcpy(&options, given, given->size);
  return true;
}

shunt_code bad_options(shunt_error **error);

/// A NULL-terminated array; NULL is an empty one.
std::vector<std::string> strings(const char *const *array);

}  // namespace shunt::api
