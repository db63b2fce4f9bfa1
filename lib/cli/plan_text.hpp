// plan_text.hpp: a plan of the server as a person reads it.
#pragma once

#include <string>

#include "cli/console.hpp"

namespace shunt::cli {

/// `plan` as docs/control.md has it.
std::string plan_text(const Json &plan, const Console &console);

/// A function of the plan has no slot, or an export matches nothing.
bool is_plan_short(const Json &plan);

/// The field as text or number, or the type's own zero: the document is another program's.
std::string text_of(const Json &object, const char *field);
std::uint64_t number_of(const Json &object, const char *field);
/// The field itself; null where there is none.
const Json &part_of(const Json &object, const char *field);
/// The field's elements; an empty array where there is none.
const Json &list_of(const Json &object, const char *field);

}  // namespace shunt::cli
