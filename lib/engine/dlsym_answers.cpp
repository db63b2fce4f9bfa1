#include "engine/dlsym_answers.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "arch/native_asking_jump.hpp"
#include "engine/dlsym_scope.hpp"

// ---- what the slots lead to --------------------------------------------------------------------------------------------

extern "C" {
// Where the asking jumps go on: kept up to date by the engine, as the original of any redirect.
[[gnu::used]] void *(*shunt_real_dlsym)(void *, const char *) = &dlsym;
[[gnu::used]] void *(*shunt_real_dlvsym)(void *, const char *, const char *) = &dlvsym;

[[gnu::visibility("hidden")]] void *shunt_answer_dlsym(void *handle, const char *name);
[[gnu::visibility("hidden")]] void *shunt_answer_dlvsym(void *handle, const char *name, const char *version);

[[gnu::used]] std::uintptr_t shunt_ask_dlsym(void *handle, const char *name, const char *, std::uintptr_t caller) {
  return shunt::core::DlsymAnswers::answer(handle, name, nullptr, caller);
}
[[gnu::used]] std::uintptr_t shunt_ask_dlvsym(void *handle, const char *name, const char *version,
                                              std::uintptr_t caller) {
  return version != nullptr ? shunt::core::DlsymAnswers::answer(handle, name, version, caller) : 0;
}
}

SHUNT_ASKING_JUMP(shunt_answer_dlsym, shunt_ask_dlsym, shunt_real_dlsym);
SHUNT_ASKING_JUMP(shunt_answer_dlvsym, shunt_ask_dlvsym, shunt_real_dlvsym);

namespace shunt::core {
namespace {

constinit std::atomic<DlsymAnswers *> current = nullptr;
constinit std::atomic<std::uint32_t> readers = 0;
constinit std::atomic<void *> program = nullptr;  // the handle of dlopen(NULL)
DlsymAnswers *retired = nullptr;                  // were current, and some reader may have them. With the engine held

std::uintptr_t ask_really(const DlsymCall &call, void *handle) {
  const char *const name = call.name.text;
  return reinterpret_cast<std::uintptr_t>(
      call.version != nullptr ? __atomic_load_n(&shunt_real_dlvsym, __ATOMIC_ACQUIRE)(handle, name, call.version)
                              : __atomic_load_n(&shunt_real_dlsym, __ATOMIC_ACQUIRE)(handle, name));
}

std::shared_ptr<const Request> own_request(const char *symbol, std::uintptr_t replacement, void *original) {
  auto request = std::make_shared<Request>(symbol, replacement);
  request->filter = std::make_shared<const CallerFilter>();
  request->reach = Reach::slots;
  request->original_cell = static_cast<std::uintptr_t *>(original);
  request->dlsym = true;  // who looks dlsym itself up gets this one
  request->is_own = true;
  return request;
}

/// Calls `visit(change, redirect)` for all that stand, newest first.
template <class Visit>
void for_each(const Layers &layers, Visit visit) {
  for (auto change = layers.changes().rbegin(); change != layers.changes().rend(); ++change)
    for (const ChangeRedirect &redirect : (*change)->redirects)
      if (redirect.is_active()) visit(**change, redirect);
}

}  // namespace

// ---- for the engine ----------------------------------------------------------------------------------------------------

const Requests &DlsymAnswers::requests() {
  static const Requests *const requests =
      new Requests{own_request("dlsym", reinterpret_cast<std::uintptr_t>(&shunt_answer_dlsym), &shunt_real_dlsym),
                   own_request("dlvsym", reinterpret_cast<std::uintptr_t>(&shunt_answer_dlvsym), &shunt_real_dlvsym)};
  return *requests;
}

bool DlsymAnswers::are_asked_for(const Requests &requests) {
  return std::any_of(requests.begin(), requests.end(), [](const auto &one) { return one->dlsym && !one->is_own; });
}

void DlsymAnswers::prepare() {
  if (program.load() == nullptr) program = dlopen(nullptr, RTLD_LAZY);
}

std::unique_ptr<DlsymAnswers> DlsymAnswers::make(const Layers &layers, std::size_t more,
                                                 const std::vector<LoadedPatch> &patches) {
  auto answers = std::make_unique<DlsymAnswers>();
  std::size_t count = more;
  for_each(layers, [&](const Change &, const ChangeRedirect &) { ++count; });
  answers->answers_.reserve(count);
  answers->replaced_.reserve(count);
  answers->patches_ = patches;
  return answers;
}

void DlsymAnswers::fill(const Layers &layers, const Change *leaving) {
  for_each(layers, [&](const Change &change, const ChangeRedirect &redirect) {
    if (replaced_.size() == replaced_.capacity()) return;
    replaced_.push_back({redirect.replacement, redirect.function});
    if (&change != leaving && redirect.request->dlsym)
      answers_.push_back({redirect.request, redirect.function, redirect.replacement});
  });
}

/// A reader counts itself before it reads what is current: where none is counted after that has changed, none has what it was.
void DlsymAnswers::publish(std::unique_ptr<DlsymAnswers> answers) {
  if (DlsymAnswers *const before = current.exchange(answers.release())) {
    before->retired_before_ = retired;
    retired = before;
  }
  is_settled();
}

bool DlsymAnswers::is_settled() {
  if (readers.load() != 0) return retired == nullptr;
  while (retired != nullptr) {
    const std::unique_ptr<DlsymAnswers> last(retired);
    retired = last->retired_before_;
  }
  return true;
}

void DlsymAnswers::lead_back(const Change &change) {
  for (const ChangeRedirect &redirect : change.redirects)
    __atomic_store_n(redirect.request->original_cell, redirect.function, __ATOMIC_RELEASE);
}

/// Readers on other threads are not there.
void DlsymAnswers::after_fork_in_child() { readers = 0; }

// ---- answers -----------------------------------------------------------------------------------------------------------

/// What is found out about a call with the loader's lock held.
struct DlsymAnswers::Sight {
  static constexpr std::size_t kMost = 64;  // layers over one symbol that are asked
  std::uint64_t chosen = 0;                 // bits: answers of the name whose redirect is for this caller
  std::uintptr_t canonical = 0;             // the program's PLT entry that stands for the function
  bool has_caller = false, came_with_program = false;
  DlsymFound own_first;    // RTLD_DEFAULT: an object that is bound to itself first
  DlsymFound local;        // RTLD_DEFAULT: in what came with the caller
  DlsymFound next;         // RTLD_NEXT
  bool is_behind = false;  // RTLD_NEXT: of what came with the program nothing has the name
  Resolver::Scope scope = Resolver::Scope::unknown;
};

bool DlsymAnswers::is_of(const Answer &answer, const DlsymCall &call) {
  const Request &asked = *answer.request;
  return asked.name.gnu_hash == call.name.gnu_hash && asked.symbol == call.name.text &&
         (call.version == nullptr || asked.version.empty() || asked.version == call.version);
}

void DlsymAnswers::look(const DlsymCall &call, ObjectTable &objects, Sight &sight) const {
  for (const LoadedPatch &patch : patches_)
    if (patch.inside != 0) objects.call(patch.inside, patch.file.c_str());
  Object *const caller = objects.at(call.caller);
  sight.has_caller = caller != nullptr;
  std::size_t k = 0;
  for (const Answer &answer : answers_) {
    if (!is_of(answer, call)) continue;
    if (k == Sight::kMost) break;
    const Request &asked = *answer.request;
    const bool is_chosen = caller != nullptr
                               ? asked.filter->chooses(*caller) && !replaces(patches_, *caller, asked.symbol)
                               : !asked.filter->leaves_out();
    if (is_chosen) sight.chosen |= std::uint64_t{1} << k;
    ++k;
  }
  if (sight.chosen == 0) return;

  const Object &first = objects.in_load_order()[0];
  if (first.is_readable) sight.canonical = canonical_plt_address(first.image, call.name);
  if (caller == nullptr || (call.handle != RTLD_DEFAULT && call.handle != RTLD_NEXT)) return;
  DlsymScope scope(objects, call.name, call.version);
  sight.came_with_program = scope.came_with_program(*caller);
  if (call.handle == RTLD_NEXT) {
    sight.next = sight.came_with_program ? scope.in_program(caller) : scope.behind(*caller);
    sight.is_behind = sight.came_with_program && !scope.in_program(nullptr).is_there();
    return;
  }
  if (caller->image.binds_symbolically()) sight.own_first = scope.in(*caller);
  if (sight.came_with_program) return;
  sight.local = scope.with(*caller);
  if (sight.local.is_there() && sight.local.symbol != scope.in_program(nullptr).symbol)
    sight.scope = Resolver(objects, {}).scope_seen_in(*caller, replaced_);
}

namespace {

/// RTLD_DEFAULT makes the dynamic linker keep an object that is found beyond what came with the caller for as long as the caller is there. It
/// is not asked when the replacement is the answer, and so the object is kept for good. False when it cannot be.
bool keep(ObjectTable &objects, std::uintptr_t function) {
  Problem problem;
  const char *linked = nullptr;
  objects.while_locked(problem, [&](Problem &) {
    const Object *const object = objects.at(function);
    const bool may_go = object != nullptr &&
                        static_cast<std::size_t>(object - objects.in_load_order().data()) >= objects.startup_count();
    if (may_go) linked = object->linked;
  });
  if (linked == nullptr) return !problem;
  void *const handle = dlopen(linked, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
  if (handle == nullptr) return false;
  dlclose(handle);
  bool is_it = false;
  objects.while_locked(problem, [&](Problem &) {
    const Object *const object = objects.at(function);
    is_it = object != nullptr && object->linked == linked;
  });
  return is_it;
}

}  // namespace

std::uintptr_t DlsymAnswers::find(const DlsymCall &call) const {
  ObjectTable objects;  // of this call alone: the engine's is not to be had without its mutex
  Sight sight;
  Problem problem;
  objects.while_locked(problem, [&](Problem &) { look(call, objects, sight); });
  if (problem || sight.chosen == 0) return 0;

  std::uintptr_t real = 0;
  bool is_kept_by_linker = false;
  if (call.handle == RTLD_NEXT) {
    if (sight.next.is_there())
      real = sight.next.value();
    else if (sight.is_behind)
      real = ask_really(call, program.load());
  } else if (call.handle == RTLD_DEFAULT) {
    if (program.load() == nullptr) return 0;
    if (sight.own_first.is_there()) {
      real = sight.own_first.value();
    } else {
      const std::uintptr_t own = sight.local.is_there() ? sight.local.value() : 0;
      const std::uintptr_t global = ask_really(call, program.load());
      real = global != 0 ? global : own;
      if (global != 0 && own != 0 && global != own) {
        if (sight.scope == Resolver::Scope::unknown) return 0;
        if (sight.scope == Resolver::Scope::own_first) real = own;
      }
      is_kept_by_linker = sight.has_caller && real != own;
    }
  } else {
    real = ask_really(call, call.handle);
  }
  if (real == 0) return 0;

  std::size_t k = 0;
  for (const Answer &answer : answers_) {
    if (!is_of(answer, call)) continue;
    if (k == Sight::kMost) break;
    const bool is_chosen = (sight.chosen >> k++ & 1) != 0;
    if (!is_chosen || (real != answer.function && real != sight.canonical)) continue;
    if (is_kept_by_linker && !keep(objects, answer.function)) return 0;
    answer.request->was_given = true;
    return answer.replacement;
  }
  return 0;
}

std::uintptr_t DlsymAnswers::answer(void *handle, const char *name, const char *version, std::uintptr_t caller) {
  if (name == nullptr || current.load(std::memory_order_relaxed) == nullptr) return 0;
  const DlsymCall call = {handle, SymbolName(name), version, caller};
  const int before = errno;
  readers.fetch_add(1);
  std::uintptr_t found = 0;
  if (const DlsymAnswers *const answers = current.load()) {
    const auto is_asked_for = [&](const Answer &one) { return is_of(one, call); };
    if (std::any_of(answers->answers_.begin(), answers->answers_.end(), is_asked_for)) found = answers->find(call);
  }
  readers.fetch_sub(1);
  if (found != 0) static_cast<void>(dlerror());  // success leaves no error, not even that of a call before
  errno = before;
  return found;
}

}  // namespace shunt::core
