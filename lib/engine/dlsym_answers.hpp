// dlsym_answers.hpp: dlsym() and dlvsym() answer with the replacements of redirects that ask for it (Request::dlsym).
//
// While such a redirect stands, the slots of dlsym and dlvsym lead here, by redirects of shunt's own. The dynamic linker knows who
// calls dlsym() by the address that the call returns to, and RTLD_DEFAULT and RTLD_NEXT depend on that. So the function here decides first, and
// then either answers or jumps on to the real one, which sees the call as it was made (arch/native_asking_jump.hpp). What is not the name of
// such a redirect is never looked at, and errors are always the dynamic linker's own.
//
// Of such a name, the answer is the replacement when the real answer would be the function that is redirected, and the caller's
// calls of it are redirected as well: chosen by the filter, and no patch that replaces it. What the real answer would be:
//   a handle           the real function is asked: who calls makes no difference to it
//   RTLD_DEFAULT, NEXT DlsymScope, and the real function for the program's objects. Where that does not settle it (an object that may
//                      have been loaded with RTLD_DEEPBIND, RTLD_NEXT of the program past all that came with it) nothing is replaced.
// The newest layer that asks for it counts. Layers that do not ask are not seen by dlsym().
//
// Readers take no lock: what they read is immutable, and freed when no reader can have it. The loader's lock is held only while objects are
// looked at, never while code of others runs; dlsym() is called with it held, too, so the engine's mutex must not be taken here.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/layers.hpp"
#include "engine/loaded_patch.hpp"
#include "engine/resolver.hpp"

namespace shunt::core {

struct DlsymCall {
  void *handle;
  SymbolName name;
  const char *version;  // NULL for dlsym()
  std::uintptr_t caller;
};

class DlsymAnswers {
 public:
  /// The redirects that lead dlsym and dlvsym here. They stand without slots, too, for objects that are loaded later.
  static const Requests &requests();
  /// Does any of them ask for answers?
  static bool are_asked_for(const Requests &requests);
  /// Needed before the first answer. Asks the dynamic linker, so neither lock may be held.
  static void prepare();

  /// With room for all redirects of `layers`, and `more`: what takes memory. Then fill(), which takes none.
  static std::unique_ptr<DlsymAnswers> make(const Layers &layers, std::size_t more,
                                            const std::vector<LoadedPatch> &patches);
  /// `leaving`: does not count.
  void fill(const Layers &layers, const Change *leaving = nullptr);
  [[nodiscard]] bool is_empty() const { return answers_.empty(); }

  /// From now on these are the answers; NULL: none. With the engine held.
  static void publish(std::unique_ptr<DlsymAnswers> answers);
  /// Nobody is about to answer with what was published before. With the engine held.
  static bool is_settled();
  /// The redirects of requests() do not stand any more: who still has a pointer to them gets to the real functions.
  static void lead_back(const Change &change);
  static void after_fork_in_child();

  /// For the functions that the slots lead to: the replacement, or 0. `version`: NULL for dlsym().
  static std::uintptr_t answer(void *handle, const char *name, const char *version, std::uintptr_t caller);

 private:
  struct Answer {
    std::shared_ptr<const Request> request;
    std::uintptr_t function, replacement;
  };
  struct Sight;
  [[nodiscard]] std::uintptr_t find(const DlsymCall &call) const;
  static bool is_of(const Answer &answer, const DlsymCall &call);
  void look(const DlsymCall &call, ObjectTable &objects, Sight &sight) const;

  std::vector<Answer> answers_;               // newest first
  std::vector<Resolver::Replaced> replaced_;  // by any layer
  std::vector<LoadedPatch> patches_;
  DlsymAnswers *retired_before_ = nullptr;
};

}  // namespace shunt::core
