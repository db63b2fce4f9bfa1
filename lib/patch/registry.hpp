// registry.hpp: which patches are applied, since when and by whom; and the audit trail. Every patch goes through here, whoever
// applies or reverts it: the program by shunt.h, the shim's environment, its folder, a client of the control socket. So what one
// of them applied another can revert, and each finds out.
//
// Each apply, revert and refusal is one line of the log: who, what (file, build-id, sha256) and the result. Lines are made
// when no lock is held, since the log is foreign code.
//
// The code of a patch that was reverted drains (patch_code.hpp) whoever still has the patch: drain() is to be called now and then until
// it is unloaded. Shunt's thread does that where it runs; every apply and revert does it besides.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <span>
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

/// How the code of a patch is left after a revert.
struct Leaving {
  bool keeps_code = false;                       // it is not unloaded
  std::uintptr_t own_sp = Question::kOwnThread;  // as Question::ask_whether_free()
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
  std::shared_ptr<PatchCode> code;
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
    Fate fate;  // after a first look
    std::shared_ptr<Record> record = {};
  };
  /// Errors of both: as Patch::revert(); unknown_patch.
  Result<Reverted> revert(Patch &patch, const Who &who, const Leaving &leaving);
  Result<Reverted> revert(const std::string &name, const Who &who, const Leaving &leaving);
  /// All that are applied, newest first; their code is looked at when all are reverted. The first error, when one cannot be; the others are reverted all the same.
  std::optional<Error> revert_all(const Who &who, const Leaving &leaving, std::vector<Reverted> &reverted);

  // ---- draining

  /// Looks again at all that drain and whose turn it is. `own_sp`: as Question::ask_whether_free().
  void drain(std::uintptr_t own_sp);
  /// When it is somebody's turn (now_ns()); none: nothing drains.
  std::optional<std::uint64_t> next_drain();
  /// Calls `bell` whenever something begins to drain, on the thread that reverted it. For one listener.
  void ring_when_draining(void (*bell)()) { bell_.store(bell); }
  /// What has become of the code of a patch.
  Result<Fate> fate_of(const Patch &patch);
  /// Looks until the code is unloaded or kept, or `until` (now_ns()) has come.
  Result<Fate> wait(const Patch &patch, std::uintptr_t own_sp, std::uint64_t until);
  /// Nobody has the patch any more, which plans of it may have been committed of.
  void let_go(const Patch &patch);

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
  Result<Reverted> take_out(Patch &patch, const Who &who, const Leaving &leaving);
  void look_after(std::span<Reverted> all, std::uintptr_t own_sp);
  Result<Reverted> revert_record(const std::shared_ptr<Record> &record, const Who &who, const Leaving &leaving);

  /// Code that drains.
  struct Draining {
    std::shared_ptr<PatchCode> code;
    std::shared_ptr<Record> record;  // NULL where no record was made, of a patch whose plans were committed
    std::uint64_t next_at = 0, pause = 0;
  };
  void leave(const std::shared_ptr<Draining> &draining, const std::shared_ptr<Record> &record, bool keeps_code);
  void end_draining(const PatchCode *code);
  void look_at(const std::shared_ptr<Draining> &one, std::uintptr_t own_sp, std::uint64_t wait_ns);
  std::shared_ptr<Draining> take(const PatchCode *code, std::uint64_t time);
  Result<std::shared_ptr<Record>> prepare(const std::shared_ptr<Patch> &patch, const Who &who, const std::string &name);

  static constexpr std::size_t kRevertedKept = 64;
  OwnedMutex mutex_;
  Records applied_, reverted_;
  std::vector<std::shared_ptr<Draining>> draining_;
  std::atomic<std::size_t> draining_count_ = 0;  // asked without the registry
  std::atomic<void (*)()> bell_ = nullptr;
  Counters counters_;
  std::uint64_t next_id_ = 1;
};

/// What a patch file is called when no name is given: the last part of its path without ".so".
std::string name_of_file(const std::string &file);

}  // namespace shunt::core
