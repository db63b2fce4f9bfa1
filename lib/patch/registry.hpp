// registry.hpp: which patches are applied, since when and by whom; and the audit trail. Every patch goes through here, whoever
// applies or reverts it: the program by shunt.h, the shim's environment, its folder, a client of the control socket. So what one
// of them applied another can revert, and each finds out.
//
// Each apply, revert and refusal is one line of the log: who, what (file, build-id, sha256) and the result. Lines are made
// when no lock is held, since the log is foreign code.
#pragma once

#include <sys/types.h>

#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/owned_mutex.hpp"
#include "patch/patch.hpp"

namespace shunt::core {

enum class How : std::uint8_t { program, at_start, folder, control };

/// "program", "SHUNT_PATCH", "SHUNT_DIR", "control".
const char *how_name(How how);

struct Who {
  How how = How::program;
  uid_t uid = 0;
  pid_t pid = 0;
  /// At the start of a program that may only have inherited the environment variables: what matches nothing there is no error.
  bool may_be_inherited = false;
  /// The process itself.
  static Who self(How how);
};

/// A patch that was applied.
struct Record {
  std::uint64_t id = 0;  // from 1, in the order in which patches were applied
  std::string name;
  FileFacts facts;
  timespec applied_at = {};
  Who by;
  std::size_t slots = 0, entries = 0;

  // These change when it is reverted, with the registry held.
  std::shared_ptr<Patch> patch;  // NULL from then on
  timespec reverted_at = {};
  Who reverted_by;
  std::size_t conflicts = 0;  // slots that the revert left alone
};

struct Counters {
  std::uint64_t applied = 0, reverted = 0, refused = 0;
};

class Registry {
 public:
  /// Made on first use, after the engine; never destroyed.
  static Registry &instance();

  struct Applied {
    std::shared_ptr<const Record> record;
    std::int64_t microseconds;  // of the transaction
  };
  /// Applies a patch under a name. "": the file's name; where that is taken, with #2 behind it. A name that is given must be
  /// free: name_taken. Other errors: as Patch::apply().
  Result<Applied> apply(const std::shared_ptr<Patch> &patch, const Who &who, const std::string &name);

  struct Reverted {
    std::uint64_t id;
    std::string name;
    std::size_t slots, entries, conflicts;
  };
  /// Errors of both: as Patch::revert(); unknown_patch.
  Result<Reverted> revert(Patch &patch, const Who &who);
  Result<Reverted> revert(const std::string &name, const Who &who);
  /// All that are applied, newest first. The first error, when one cannot be; the others are reverted all the same.
  std::optional<Error> revert_all(const Who &who, std::vector<Reverted> &reverted);

  /// name_taken when a patch of this name is applied.
  std::optional<Error> check_name(const std::string &name);

  /// A line for what was refused before it came to be a patch.
  void tell_refused(const FileFacts &facts, const Who &who, const Error &error);

  /// Runs `visit` with the registry held: those that are applied, oldest first, then the last that were reverted.
  using Records = std::vector<std::shared_ptr<Record>>;
  std::optional<Error> look(const std::function<void(const Records &, const Counters &)> &visit);

 private:
  Registry();
  [[nodiscard]] Record *with_name(const std::string &name);
  Result<Reverted> revert_record(const std::shared_ptr<Record> &record, const Who &who);
  Result<std::shared_ptr<Record>> prepare(const std::shared_ptr<Patch> &patch, const Who &who, const std::string &name);

  static constexpr std::size_t kRevertedKept = 64;
  OwnedMutex mutex_;
  Records applied_, reverted_;
  Counters counters_;
  std::uint64_t next_id_ = 1;
};

/// What a patch file is called when no name is given: the last part of its path without ".so".
std::string name_of_file(const std::string &file);

}  // namespace shunt::core
