// answers.hpp: the JSON of each answer, as docs/control.md describes it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/engine.hpp"
#include "patch/registry.hpp"

namespace shunt::control {

/// `reverted`: what a revert of all had done before; else NULL.
std::string answer_error(const core::Error &error, const std::vector<core::Registry::Reverted> *reverted = nullptr);
std::string answer_hello(const std::string &socket);
std::string answer_imports(const core::ImportList &imports);
std::string answer_reverted(const std::vector<core::Registry::Reverted> &reverted);

/// What a plan of a patch file is said with.
struct PlannedFile {
  const core::FileFacts &facts;
  std::string name;
  const std::vector<core::Replacement> &replacements;
  const core::Plan &plan;
  std::vector<std::string> needs;
};
std::string answer_plan(const PlannedFile &file);
core::Result<std::string> answer_applied(const PlannedFile &file, const core::Registry::Applied &applied);
core::Result<std::string> answer_status(bool verify);

}  // namespace shunt::control
