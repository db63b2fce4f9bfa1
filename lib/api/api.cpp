// api.cpp: shunt.h over the engine, without the prefix shunt_, which exports.cpp puts on. Nothing here decides anything: it checks
// arguments, copies strings, and turns C++ values into handles. No exception leaves a function: the only one that can occur is
// that there is no memory.
#include <fcntl.h>
#include <shunt/shunt.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "api/calls.hpp"
#include "api/functions.hpp"
#include "api/handles.hpp"
#include "base/log.hpp"
#include "patch/registry.hpp"
#include "threads/stack_wipe.hpp"
#include "threads/thread_list.hpp"

using shunt::core::Code;
using shunt::core::Done;
using shunt::core::Engine;
using shunt::core::Error;
using shunt::core::How;
using shunt::core::make_error;
using shunt::core::Reach;
using shunt::core::Registry;
using shunt::core::Request;
using shunt::core::Result;
using shunt::core::Who;

namespace {

using shunt::api::bad_options;
using shunt::api::fail;
using shunt::api::guarded;
using shunt::api::no_memory;
using shunt::api::read_options;
using shunt::api::strings;

shunt_code missing(shunt_error **error, const char *what) {
  return fail(error, make_error(Code::invalid_argument, "%s is missing (NULL)", what));
}

/// False when it is none that is known.
bool read_reach(shunt_reach given, Reach &reach) {
  switch (given) {
    case SHUNT_REACH_AUTO:
      reach = Reach::automatic;
      return true;
    case SHUNT_REACH_SLOTS:
      reach = Reach::slots;
      return true;
    case SHUNT_REACH_ENTRY:
      reach = Reach::entry;
      return true;
  }
  return false;
}

shunt_code bad_reach(shunt_error **error) {
  return fail(error, make_error(Code::invalid_argument, "the options' reach is none that this version of shunt knows"));
}

shunt_code add(shunt_transaction &transaction, const char *symbol, void *replacement, const shunt_options *given,
               shunt_error **error) {
  if (symbol == nullptr || *symbol == '\0') return missing(error, "the symbol");
  if (replacement == nullptr) return missing(error, "the replacement");
  shunt_options options;
  if (!read_options(given, options)) return bad_options(error);
  if (reinterpret_cast<std::uintptr_t>(options.original) % alignof(void *) != 0)
    return fail(error, make_error(Code::invalid_argument, "the word for the original is not aligned"));

  auto request = std::make_shared<Request>(symbol, reinterpret_cast<std::uintptr_t>(replacement));
  if (!read_reach(options.reach, request->reach)) return bad_reach(error);
  request->also = strings(options.also);
  request->dlsym = options.dlsym != 0;
  shunt::core::CallerFilter filter{strings(options.callers), strings(options.not_callers),
                                   reinterpret_cast<std::uintptr_t>(options.caller_at), 0};
  const auto alike = std::find_if(transaction.requests.begin(), transaction.requests.end(),
                                  [&](const auto &other) { return *other->filter == filter; });
  if (alike != transaction.requests.end()) request->filter = (*alike)->filter;
  if (request->filter == nullptr)
    request->filter = std::make_shared<const shunt::core::CallerFilter>(std::move(filter));
  if (options.provider != nullptr) request->provider = options.provider;
  if (options.version != nullptr) request->version = options.version;
  request->original_cell = reinterpret_cast<std::uintptr_t *>(options.original);
  transaction.requests.push_back(std::move(request));
  return SHUNT_OK;
}

shunt_code apply(const shunt_transaction &transaction, shunt_change **change, shunt_error **error) {
  if (transaction.requests.empty())
    return fail(error, make_error(Code::invalid_argument, "the transaction has no redirect"));
  auto handle = std::make_unique<shunt_change>();
  auto applied = Engine::instance().apply(transaction.requests);
  if (!applied) return fail(error, std::move(applied.error()));
  handle->owned = std::move(*applied);
  handle->change = handle->owned.get();
  *change = handle.release();
  return SHUNT_OK;
}

shunt_code wrap_plan(Result<std::unique_ptr<shunt::core::Plan>> made, shunt_plan **plan, shunt_error **error) {
  if (!made) return fail(error, std::move(made.error()));
  auto handle = std::make_unique<shunt_plan>();
  handle->coverage = (*made)->coverage();
  for (std::uint32_t k = 0; k < (*made)->redirects.size(); ++k)
    handle->entries.push_back({(*made)->entry_why(k), (*made)->entry_names(k)});
  handle->plan = std::move(*made);
  *plan = handle.release();
  return SHUNT_OK;
}

}  // namespace

namespace shunt::api {

namespace {

/// For when there is no memory for an error: its address is the error.
char no_memory_storage[sizeof(shunt_error)];

}  // namespace

shunt_error *no_memory() { return reinterpret_cast<shunt_error *>(no_memory_storage); }

shunt_code fail(shunt_error **out, Error error) {
  const auto code = static_cast<shunt_code>(error.code);
  if (out != nullptr) {
    *out = new (std::nothrow) shunt_error{std::move(error)};
    if (*out == nullptr) *out = no_memory();
  }
  return code;
}

shunt_code bad_options(shunt_error **error) {
  return fail(
      error, make_error(Code::invalid_argument, "the size of the options is not one that this version of shunt knows"));
}

std::vector<std::string> strings(const char *const *array) {
  std::vector<std::string> all;
  for (; array != nullptr && *array != nullptr; ++array) all.emplace_back(*array);
  return all;
}

const char *version(void) { return SHUNT_VERSION_STRING; }

// ---- errors

const char *code_name(shunt_code code) { return shunt::core::code_name(static_cast<Code>(code)); }
const char *code_text(shunt_code code) { return shunt::core::code_text(static_cast<Code>(code)); }

shunt_code error_code(const shunt_error *error) {
  if (error == no_memory()) return SHUNT_E_out_of_memory;
  return error != nullptr ? static_cast<shunt_code>(error->error.code) : SHUNT_OK;
}
const char *error_message(const shunt_error *error) {
  if (error == no_memory()) return "there is no memory, not even for an error message";
  return error != nullptr ? error->error.message.c_str() : "";
}
const char *error_object(const shunt_error *error) {
  return error != nullptr && error != no_memory() ? error->error.object.c_str() : "";
}
const char *error_symbol(const shunt_error *error) {
  return error != nullptr && error != no_memory() ? error->error.symbol.c_str() : "";
}
uint64_t error_address(const shunt_error *error) {
  return error != nullptr && error != no_memory() ? error->error.address : 0;
}
int error_errno(const shunt_error *error) {
  return error != nullptr && error != no_memory() ? error->error.sys_errno : 0;
}
void error_free(shunt_error *error) {
  if (error != no_memory()) delete error;
}

/// The registry, and with it the engine, is made here already: a host that locks around its own calls and around fork() sets its
/// log before, so that its handlers for fork() run before the engine's.
void set_log(shunt_log_sink sink, void *user, shunt_log_level level) {
  Registry::instance();
  shunt::core::set_log(sink, user, level);
}

// ---- transactions

shunt_code redirect(const char *symbol, void *replacement, const shunt_options *options, shunt_change **change,
                    shunt_error **error) {
  return guarded(error, [&] {
    if (change == nullptr) return missing(error, "the place for the change");
    *change = nullptr;
    shunt_transaction transaction;
    const shunt_code code = add(transaction, symbol, replacement, options, error);
    return code == SHUNT_OK ? apply(transaction, change, error) : code;
  });
}

shunt_code transaction_new(shunt_transaction **transaction, shunt_error **error) {
  return guarded(error, [&] {
    if (transaction == nullptr) return missing(error, "the place for the transaction");
    *transaction = new shunt_transaction;
    return SHUNT_OK;
  });
}

void transaction_free(shunt_transaction *transaction) { delete transaction; }

shunt_code transaction_add(shunt_transaction *transaction, const char *symbol, void *replacement,
                           const shunt_options *options, shunt_error **error) {
  return guarded(error, [&] {
    if (transaction == nullptr) return missing(error, "the transaction");
    return add(*transaction, symbol, replacement, options, error);
  });
}

shunt_code transaction_plan(const shunt_transaction *transaction, shunt_plan **plan, shunt_error **error) {
  return guarded(error, [&] {
    if (transaction == nullptr || plan == nullptr) return missing(error, "the transaction or the place for the plan");
    *plan = nullptr;
    if (transaction->requests.empty())
      return fail(error, make_error(Code::invalid_argument, "the transaction has no redirect"));
    return wrap_plan(Engine::instance().plan(transaction->requests), plan, error);
  });
}

shunt_code transaction_apply(const shunt_transaction *transaction, shunt_change **change, shunt_error **error) {
  return guarded(error, [&] {
    if (transaction == nullptr || change == nullptr)
      return missing(error, "the transaction or the place for the change");
    *change = nullptr;
    return apply(*transaction, change, error);
  });
}

// ---- plans

size_t plan_redirects(const shunt_plan *plan) { return plan != nullptr ? plan->plan->requests.size() : 0; }
size_t plan_slots(const shunt_plan *plan) { return plan != nullptr ? plan->plan->list.slots.size() : 0; }

shunt_code plan_slot(const shunt_plan *plan, size_t k, shunt_slot_info *info) {
  if (plan == nullptr || info == nullptr) return SHUNT_E_invalid_argument;
  const shunt::core::Plan &made = *plan->plan;
  const shunt::core::SlotList &list = made.list;
  if (k >= list.slots.size()) return SHUNT_E_invalid_argument;
  const shunt::core::Slot &slot = list.slots[k];
  const auto span = std::find_if(list.spans.begin(), list.spans.end(),
                                 [&](const shunt::core::Span &one) { return k < one.first + std::size_t{one.count}; });
  *info = {span->path,
           shunt::core::arch::kind_name(slot.kind),
           span->base + slot.where,
           made.before(slot),
           slot.redirect,
           slot.is_lazy ? 1 : 0};
  return SHUNT_OK;
}

const char *plan_symbol(const shunt_plan *plan, size_t k) {
  return k < plan_redirects(plan) ? plan->plan->requests[k]->symbol.c_str() : nullptr;
}
const char *plan_provider(const shunt_plan *plan, size_t k) {
  return k < plan_redirects(plan) ? plan->plan->redirects[k].provider : nullptr;
}
void *plan_original(const shunt_plan *plan, size_t k) {
  return k < plan_redirects(plan) ? reinterpret_cast<void *>(plan->plan->redirects[k].original) : nullptr;
}
/// What a later version of the header has more in it is left alone; an earlier one may have less.
shunt_code plan_entry(const shunt_plan *plan, size_t k, shunt_entry_info *info) {
  if (plan == nullptr || info == nullptr || k >= plan_redirects(plan) || info->size < sizeof info->size ||
      info->size > sizeof *info)
    return SHUNT_E_invalid_argument;
  const shunt::core::Plan &made = *plan->plan;
  const shunt::core::PlannedEntry *const chosen = made.entry_of(k);
  const shunt_plan::EntryText &text = plan->entries[k];
  const shunt_entry_info all = {info->size,
                                chosen != nullptr ? 1 : 0,
                                chosen != nullptr ? made.redirects[k].function + chosen->plan.site : 0,
                                chosen != nullptr ? shunt::core::arch::form_name(chosen->plan.form) : "",
                                text.why.c_str(),
                                text.names.c_str()};
  std::memcpy(info, &all, info->size);
  return SHUNT_OK;
}
const char *plan_coverage(const shunt_plan *plan) { return plan != nullptr ? plan->coverage.c_str() : ""; }

shunt_code plan_commit(const shunt_plan *plan, shunt_change **change, shunt_error **error) {
  return guarded(error, [&] {
    if (plan == nullptr || change == nullptr) return missing(error, "the plan or the place for the change");
    *change = nullptr;
    auto handle = std::make_unique<shunt_change>();
    auto committed = Engine::instance().commit(*plan->plan);
    if (!committed) return fail(error, std::move(committed.error()));
    handle->owned = std::move(*committed);
    handle->change = handle->owned.get();
    *change = handle.release();
    return SHUNT_OK;
  });
}

void plan_free(shunt_plan *plan) { delete plan; }

// ---- changes

shunt_code change_revert(shunt_change *change, shunt_error **error) {
  return guarded(error, [&] {
    if (change == nullptr) return missing(error, "the change");
    Result<Done> reverted = Engine::instance().revert(*change->change);
    return reverted ? SHUNT_OK : fail(error, std::move(reverted.error()));
  });
}

shunt_code watch_loads(shunt_error **error) {
  return guarded(error, [&] {
    const Result<Done> watched = Engine::instance().watch_loads();
    return watched ? SHUNT_OK : fail(error, Error(watched.error()));
  });
}

void change_free(shunt_change *change) {
  if (change == nullptr) return;
  if (change->owned != nullptr && change->owned->is_applied) static_cast<void>(change->owned.release());
  delete change;
}

int change_is_applied(const shunt_change *change) { return change != nullptr && change->change->is_applied ? 1 : 0; }
size_t change_slots(const shunt_change *change) { return change != nullptr ? change->change->list.slots.size() : 0; }
size_t change_entries(const shunt_change *change) { return change != nullptr ? change->change->entry_count() : 0; }
size_t change_conflicts(const shunt_change *change) {
  return change != nullptr ? Engine::instance().conflicts(*change->change) : 0;
}
void *original(const shunt_change *change, size_t k) {
  if (change == nullptr || k >= change->change->redirects.size()) return nullptr;
  return reinterpret_cast<void *>(change->change->original(k));
}

// ---- patches

shunt_code patch_load(const char *path, const shunt_patch_options *options, shunt_patch **patch, shunt_error **error) {
  return guarded(error, [&] {
    if (path == nullptr) return missing(error, "the path of the patch");
    const shunt::core::Fd fd(open(path, O_RDONLY | O_CLOEXEC));
    if (!fd.is_open())
      return fail(error, shunt::core::file_error(Code::patch_unreadable, path, "cannot be opened", errno));
    return patch_load_fd(fd.get(), path, options, patch, error);
  });
}

shunt_code patch_load_fd(int fd, const char *name, const shunt_patch_options *given, shunt_patch **patch,
                         shunt_error **error) {
  return guarded(error, [&] {
    if (name == nullptr || patch == nullptr) return missing(error, "the name of the patch or the place for it");
    *patch = nullptr;
    shunt_patch_options options;
    if (!read_options(given, options)) return bad_options(error);
    Reach reach = Reach::automatic;
    if (!read_reach(options.reach, reach)) return bad_reach(error);
    auto handle = std::make_unique<shunt_patch>();
    auto loaded = shunt::core::Patch::load(
        fd, name,
        {strings(options.symbols), strings(options.callers), strings(options.not_callers),
         options.provider != nullptr ? options.provider : "", reach, strings(options.also), options.keep != 0,
         options.dlsym != 0});
    if (!loaded) return fail(error, std::move(loaded.error()));
    handle->patch = std::move(*loaded);
    *patch = handle.release();
    return SHUNT_OK;
  });
}

shunt_code patch_plan(const shunt_patch *patch, shunt_plan **plan, shunt_error **error) {
  return guarded(error, [&] {
    if (patch == nullptr || plan == nullptr) return missing(error, "the patch or the place for the plan");
    *plan = nullptr;
    return wrap_plan(patch->patch->plan(), plan, error);
  });
}

namespace {

/// Calls `work(own_sp)` so that what the caller has in its registers lies on the stack above `own_sp`: a compiler may keep an address
/// in the patch there. What is below is shunt's, and afterwards wiped: addresses that are left there would look like somebody's.
template <class Work>
[[gnu::noinline]] shunt_code below_caller(const Work &work) {
  const shunt_code code = work(reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)));
  shunt::core::wipe_stack();
  return code;
}

shunt_code answer_draining(shunt_patch &patch, const shunt::core::Fate &fate, shunt_draining &draining) {
  patch.draining_text = text_of(fate);
  patch.draining_threads.clear();
  for (const shunt::core::Obstacle &one : fate.threads)
    patch.draining_threads.push_back(
        {one.thread, one.at, one.call >= 0 ? shunt::core::call_name(one.call) : "", one.why});
  const shunt_draining all = {draining.size, static_cast<shunt_patch_code>(fate.state), patch.draining_text.c_str(),
                              patch.draining_threads.data(), patch.draining_threads.size()};
  std::memcpy(&draining, &all, draining.size);
  return SHUNT_OK;
}

shunt_code answer_wait(const shunt_patch &patch, const shunt::core::Fate &fate, shunt_error **error) {
  const char *const name = patch.patch->name().c_str();
  switch (fate.state) {
    case shunt::core::Fate::State::unloaded:
      return SHUNT_OK;
    case shunt::core::Fate::State::in_place:
      return fail(error, make_error(Code::wrong_state, "%s was not reverted", name));
    case shunt::core::Fate::State::draining:
      return fail(error, make_error(Code::thread_in_the_way, "%s is %s", name, text_of(fate).c_str()));
    case shunt::core::Fate::State::kept:
      return fail(error, make_error(Code::patch_kept, "%s was reverted; %s", name, text_of(fate).c_str()));
  }
  return SHUNT_E_invalid_argument;
}

}  // namespace

[[gnu::noinline]] shunt_code patch_apply(shunt_patch *patch, shunt_error **error) {
  __builtin_unwind_init();
  return below_caller([&](std::uintptr_t own_sp) {
    return guarded(error, [&] {
      if (patch == nullptr) return missing(error, "the patch");
      const auto applied = Registry::instance().apply(patch->patch, Who::self(How::program), "");
      Registry::instance().drain(own_sp);  // others: this one, which may have drained, is applied again first
      if (!applied) return fail(error, applied.error());
      patch->change.change = patch->patch->change();
      return SHUNT_OK;
    });
  });
}

[[gnu::noinline]] shunt_code patch_revert(shunt_patch *patch, shunt_error **error) {
  __builtin_unwind_init();
  return below_caller([&](std::uintptr_t own_sp) {
    return guarded(error, [&] {
      if (patch == nullptr) return missing(error, "the patch");
      const auto reverted =
          Registry::instance().revert(*patch->patch, Who::self(How::program), {patch->patch->keeps_code(), own_sp});
      return reverted ? SHUNT_OK : fail(error, reverted.error());
    });
  });
}

[[gnu::noinline]] shunt_code patch_draining(shunt_patch *patch, shunt_draining *draining, shunt_error **error) {
  __builtin_unwind_init();
  return below_caller([&](std::uintptr_t own_sp) {
    return guarded(error, [&] {
      if (patch == nullptr || draining == nullptr) return missing(error, "the patch or the place for the answer");
      if (draining->size < sizeof draining->size || draining->size > sizeof *draining) return bad_options(error);
      Registry::instance().drain(own_sp);
      const auto fate = Registry::instance().fate_of(*patch->patch);
      return fate ? answer_draining(*patch, *fate, *draining) : fail(error, fate.error());
    });
  });
}

[[gnu::noinline]] shunt_code patch_wait(shunt_patch *patch, int timeout_ms, shunt_error **error) {
  __builtin_unwind_init();
  return below_caller([&](std::uintptr_t own_sp) {
    return guarded(error, [&] {
      if (patch == nullptr) return missing(error, "the patch");
      constexpr std::uint64_t kMillisecond = 1'000'000;
      const std::uint64_t until =
          timeout_ms < 0 ? UINT64_MAX : shunt::core::now_ns() + static_cast<std::uint64_t>(timeout_ms) * kMillisecond;
      const auto fate = Registry::instance().wait(*patch->patch, own_sp, until);
      return fate ? answer_wait(*patch, *fate, error) : fail(error, fate.error());
    });
  });
}

const shunt_change *patch_change(const shunt_patch *patch) {
  return patch != nullptr && patch->patch->change() != nullptr ? &patch->change : nullptr;
}
const char *patch_name(const shunt_patch *patch) { return patch != nullptr ? patch->patch->name().c_str() : ""; }
void *patch_symbol(const shunt_patch *patch, const char *symbol) {
  return patch != nullptr && symbol != nullptr ? patch->patch->symbol(symbol) : nullptr;
}
void patch_free(shunt_patch *patch) {
  if (patch != nullptr) Registry::instance().let_go(*patch->patch);
  delete patch;
}

}  // namespace shunt::api
