// patch_code.hpp: the code of a patch in the process: loaded, and unloaded when no thread holds an address in it any
// more.
//
// As long as the patch is applied, its code is in place. When it is reverted, it drains: no call gets in any more, and
// those that are inside come out. It is unmapped when the threads were asked (threads/question.hpp) and each of them
// has been seen without an address in it since; never before. Some code is kept, and it is said why:
//
//   its user asked for that      pointers to its functions or data may have been handed out, and live longer than any call
//   others changed the slots     another tool's hook may call the replacement that it found there
//   there are coroutines         a stack that no thread runs on cannot be seen, and may return into it. There are where a thread was ever
//                                seen on a stack of its own making, or an object calls swapcontext() or Boost's jump_fcontext()
//   the dynamic linker keeps it  it was linked with -z nodelete, it has unique symbols, or thread-local variables of it are still to be
//                                destroyed
//
// Not seen are addresses elsewhere in memory: a callback that the patch registered, or a pointer to a redirected
// function that the program took while the patch was applied. Whoever hands out such a thing takes it back before the
// revert, or keeps the patch.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "engine/engine.hpp"
#include "patch/patch_file.hpp"
#include "threads/bystanders.hpp"
#include "threads/question.hpp"

namespace shunt::core {

/// What becomes of the code.
struct Fate {
  enum class State : std::uint8_t { in_place, draining, unloaded, kept };
  State state = State::in_place;
  std::string why = {};                // it is kept, or drains though no thread is in the way
  std::vector<Obstacle> threads = {};  // in the way when they were asked last

  /// Where there is no memory for the reason, it is left out.
  void become(State to, const char *reason = "") noexcept;
  void become(const Fate &other) noexcept;
};

/// "in_place", "draining", "unloaded", "kept".
const char *state_name(Fate::State state);
/// "asleep in epoll_wait", or what else is known.
std::string doing_of(const Obstacle &thread);
/// "still draining: threads 12, 40 (asleep in epoll_wait), thread 7 (is in it)".
std::string text_of(const Fate &fate);

class PatchCode {
 public:
  /// Loads the copy of the file. Its constructors run.
  /// Errors: patch_undefined_symbols, patch_not_loadable, patch_unreadable.
  static Result<std::shared_ptr<PatchCode>> load(PatchFile &file);
  PatchCode(const PatchCode &) = delete;
  PatchCode &operator=(const PatchCode &) = delete;
  /// Unloads what no redirect ever led into.
  ~PatchCode();

  [[nodiscard]] std::uintptr_t inside() const { return inside_; }
  [[nodiscard]] const std::shared_ptr<CodeLife> &life() const { return life_; }
  /// As dlsym(). NULL as well from the revert on, until the patch is applied again: who asks must not get an address
  /// then.
  void *symbol(const char *name);
  void hand_out(bool does) { hands_out_.store(does); }

  /// Why it is kept for ever, whatever the threads say; NULL: it is not.
  [[nodiscard]] const char *why_kept() const {
    return life_->may_be_called_by_others
               ? "others have changed what led to it, or asked dlsym() for it, and may still call it"
               : why_never_unloaded_;
  }

  /// Asks the threads, for `wait_ns` about; `own_sp` as Question::ask_whether_free(). Where nobody is in the way the
  /// code is unloaded, and its destructors run: so with no lock held. One thread at a time.
  void try_to_unload(std::uintptr_t own_sp, std::uint64_t wait_ns, Fate &found);

  /// In the child of a fork: whoever was looking at it, or a symbol up in it, is not here.
  void after_fork_in_child() {
    is_being_looked_at = false;
    lookups_.store(0);
  }

  // For the registry, which guards them: what has become of it; somebody is at try_to_unload().
  Fate fate;
  bool is_being_looked_at = false;

 private:
  PatchCode() = default;
  bool ask(std::uintptr_t own_sp, std::uint64_t wait_ns, Fate &found);
  [[nodiscard]] bool is_mapped() const;
  void unload(Fate &found);

  std::string linked_;                                          // what the dynamic linker calls it
  std::uintptr_t inside_ = 0, base_ = 0, begin_ = 0, end_ = 0;  // an address inside it; what it was moved by; all of it
  const char *why_never_unloaded_ = nullptr;
  const char *why_kept_by_linker_ = nullptr;
  std::shared_ptr<CodeLife> life_ = std::make_shared<CodeLife>();
  std::atomic<void *> handle_ = nullptr;  // of dlopen
  std::atomic<int> lookups_ = 0;
  std::atomic<bool> hands_out_ = true;
  Bystanders bystanders_;         // with the engine held
  std::uint32_t uses_asked_ = 0;  // the same: bystanders were seen after the last of so many uses
};

}  // namespace shunt::core
