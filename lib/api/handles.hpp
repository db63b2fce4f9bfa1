// handles.hpp: what the opaque types of shunt.h are.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/engine.hpp"
#include "patch/patch.hpp"

struct shunt_error {
  shunt::core::Error error;
};

struct shunt_transaction {
  shunt::core::Requests requests;
};

struct shunt_plan {
  std::unique_ptr<shunt::core::Plan> plan;
  std::string coverage;
  struct EntryText {
    std::string why, names;
  };
  std::vector<EntryText> entries;  // one for each redirect
};

struct shunt_change {
  std::unique_ptr<shunt::core::Change> owned;  // NULL where a patch owns it
  shunt::core::Change *change = nullptr;
};

struct shunt_patch {
  std::shared_ptr<shunt::core::Patch> patch;  // the registry has it too while it is applied
  shunt_change change;                        // what shunt_patch_change() answers
  // What shunt_patch_draining() answered last.
  std::string draining_text;
  std::vector<shunt_draining_thread> draining_threads;
};
