// functions.hpp: the functions of shunt.h as this copy of the library implements them: shunt::api::redirect and so on.
#pragma once

#include <shunt/shunt.h>

namespace shunt::api {

#define SHUNT_FUNCTION(result, name, parameters, arguments) result name parameters;
#include "api/functions.def"
#undef SHUNT_FUNCTION

}  // namespace shunt::api
