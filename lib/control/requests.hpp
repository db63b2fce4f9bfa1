// requests.hpp: does what a client asks for. One request at a time, so those that change something are serialised.
#pragma once

#include <string>

#include "base/fd.hpp"
#include "control/protocol.hpp"
#include "patch/registry.hpp"

namespace shunt::control {

/// The answer, JSON. `file`: the descriptor that came with the request, or none. Never throws.
std::string answer_to(const Request &request, core::Fd file, const core::Who &who, const std::string &socket);

/// The answer to what is no request that can be understood.
std::string answer_bad_request(const std::string &why);

}  // namespace shunt::control
