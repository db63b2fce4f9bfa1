// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// shunt.hpp: the C++20 face of shunt.h. Header-only, so that no C++ type crosses the library's boundary: a server built with
// clang can use a library built with g++. What each function does, and every error it can give, is written in shunt.h.
//
//     auto redirect = shunt::redirect("gettimeofday", &my_gettimeofday);
//     if (!redirect) std::cerr << redirect.error().message() << '\n';
//
// Nothing here throws by itself (std::string and std::vector may, when there is no memory). Handles are RAII values that
// move: a Redirect, a Change or an applied Patch is reverted when it goes out of scope, unless keep() was called.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <shunt/shunt.h>

namespace shunt {

/// What can go wrong, as in errors.def.
enum class Code : int {
  ok = SHUNT_OK,
#define SHUNT_ERROR(name, number, summary) name = number,
#include <shunt/errors.def>
#undef SHUNT_ERROR
};

/// An error as a value: a code, a sentence, and the facts.
class Error {
 public:
  /// NULL takes no memory: what was done is not told as a failure for want of it.
  explicit Error(shunt_error *error) {
    if (error != nullptr) error_ = std::shared_ptr<shunt_error>(error, &shunt_error_free);
  }
  [[nodiscard]] Code code() const { return static_cast<Code>(shunt_error_code(error_.get())); }
  [[nodiscard]] const char *name() const { return shunt_code_name(shunt_error_code(error_.get())); }
  [[nodiscard]] const char *message() const { return shunt_error_message(error_.get()); }
  [[nodiscard]] const char *object() const { return shunt_error_object(error_.get()); }
  [[nodiscard]] const char *symbol() const { return shunt_error_symbol(error_.get()); }
  [[nodiscard]] std::uint64_t address() const { return shunt_error_address(error_.get()); }
  [[nodiscard]] int system_errno() const { return shunt_error_errno(error_.get()); }

 private:
  std::shared_ptr<shunt_error> error_;
};

/// A value or an Error, spelled like std::expected<T, Error>. Reading the wrong one of the two is undefined.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit, as std::expected
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit, as std::unexpected
  [[nodiscard]] bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }
  T &value() & { return *std::get_if<0>(&state_); }
  const T &value() const & { return *std::get_if<0>(&state_); }
  T &&value() && { return std::move(*std::get_if<0>(&state_)); }
  T &operator*() & { return value(); }
  const T &operator*() const & { return value(); }
  T &&operator*() && { return std::move(*this).value(); }
  T *operator->() { return std::get_if<0>(&state_); }
  const T *operator->() const { return std::get_if<0>(&state_); }
  [[nodiscard]] const Error &error() const { return *std::get_if<1>(&state_); }

 private:
  std::variant<T, Error> state_;
};

/// Success or an Error.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)), failed_(true) {}  // NOLINT: implicit, as std::unexpected
  [[nodiscard]] bool has_value() const { return !failed_; }
  explicit operator bool() const { return !failed_; }
  [[nodiscard]] const Error &error() const { return error_; }

 private:
  Error error_{nullptr};
  bool failed_ = false;
};

/// By which way calls are redirected: shunt_reach.
enum class Reach : int { automatic = SHUNT_REACH_AUTO, slots = SHUNT_REACH_SLOTS, entry = SHUNT_REACH_ENTRY };

/// How a redirect chooses its slots: shunt_options with C++ types.
struct Options {
  std::vector<std::string> callers = {};
  std::vector<std::string> not_callers = {};
  const void *caller_at = nullptr;
  std::string provider = {};
  std::string version = {};
  void **original = nullptr;
  Reach reach = Reach::automatic;
  std::vector<std::string> also = {};  // further names of the same code that are meant too
  bool dlsym = false;                  // dlsym() and dlvsym() answer with the replacement
};

/// How a patch chooses: shunt_patch_options with C++ types.
struct PatchOptions {
  std::vector<std::string> symbols = {};
  std::vector<std::string> callers = {};
  std::vector<std::string> not_callers = {};
  std::string provider = {};
  Reach reach = Reach::automatic;
  std::vector<std::string> also = {};
  bool keep = false;  // the code stays mapped after a revert
  bool dlsym = false;
};

namespace detail {

/// A std::vector<std::string> as the NULL-terminated array that C wants; NULL when it is empty.
class StringArray {
 public:
  explicit StringArray(const std::vector<std::string> &strings) {
    if (strings.empty()) return;
    for (const std::string &string : strings) pointers_.push_back(string.c_str());
    pointers_.push_back(nullptr);
  }
  [[nodiscard]] const char *const *get() const { return pointers_.empty() ? nullptr : pointers_.data(); }

 private:
  std::vector<const char *> pointers_;
};

inline const char *or_null(const std::string &string) { return string.empty() ? nullptr : string.c_str(); }

/// Calls `use` with the C form of `options`.
template <class Use>
auto with_c_options(const Options &options, Use use) {
  const StringArray callers(options.callers);
  const StringArray not_callers(options.not_callers);
  const StringArray also(options.also);
  const shunt_options c_options = {sizeof c_options,
                                   callers.get(),
                                   not_callers.get(),
                                   options.caller_at,
                                   or_null(options.provider),
                                   or_null(options.version),
                                   options.original,
                                   static_cast<shunt_reach>(options.reach),
                                   also.get(),
                                   options.dlsym ? 1 : 0};
  return use(&c_options);
}

template <class Handle, void (*Free)(Handle *)>
struct Freer {
  void operator()(Handle *handle) const { Free(handle); }
};
template <class Handle, void (*Free)(Handle *)>
using Owned = std::unique_ptr<Handle, Freer<Handle, Free>>;

inline Result<void> done(shunt_code code, shunt_error *error) {
  if (code != SHUNT_OK) return Error(error);
  return {};
}

}  // namespace detail

/// A transaction that was applied. Reverted when it goes out of scope, unless keep() was called.
class Change {
 public:
  explicit Change(shunt_change *change) : change_(change) {}
  Change(Change &&) = default;
  Change &operator=(Change &&other) noexcept {
    if (this != &other) {
      end();
      change_ = std::move(other.change_);
    }
    return *this;
  }
  ~Change() { end(); }

  Result<void> revert() {
    shunt_error *error = nullptr;
    const shunt_code code = shunt_change_revert(change_.get(), &error);
    return detail::done(code, error);
  }
  /// Leaves the change in place for the life of the process.
  void keep() { change_.reset(); }
  [[nodiscard]] bool is_applied() const { return shunt_change_is_applied(change_.get()) != 0; }
  [[nodiscard]] std::size_t slots() const { return shunt_change_slots(change_.get()); }
  [[nodiscard]] std::size_t entries() const { return shunt_change_entries(change_.get()); }
  [[nodiscard]] std::size_t conflicts() const { return shunt_change_conflicts(change_.get()); }
  /// The original of the k-th redirect, for a call right now.
  [[nodiscard]] void *original(std::size_t k = 0) const { return shunt_original(change_.get(), k); }
  [[nodiscard]] const shunt_change *handle() const { return change_.get(); }

 private:
  void end() {
    if (change_ && shunt_change_is_applied(change_.get()) != 0) shunt_change_revert(change_.get(), nullptr);
    change_.reset();
  }
  detail::Owned<shunt_change, &shunt_change_free> change_;
};

/// One applied redirect whose original has the replacement's type.
template <class Function>
class Redirect : public Change {
 public:
  explicit Redirect(shunt_change *change) : Change(change) {}
  /// The original, for a call right now: `redirect.original()(64)`.
  [[nodiscard]] Function *original() const { return reinterpret_cast<Function *>(Change::original(0)); }
};

/// Redirects `symbol` to `replacement`. See shunt_redirect().
template <class Function>
requires std::is_function_v<Function> Result<Redirect<Function>> redirect(const char *symbol, Function *replacement,
                                                                          const Options &options = {}) {
  shunt_change *change = nullptr;
  shunt_error *error = nullptr;
  const shunt_code code = detail::with_c_options(options, [&](const shunt_options *c_options) {
    return shunt_redirect(symbol, reinterpret_cast<void *>(replacement), c_options, &change, &error);
  });
  if (code != SHUNT_OK) return Error(error);
  return Redirect<Function>(change);
}

/// redirect() for a function whose declaration is visible: replacing it by one of another type does not compile. For
/// functions with C linkage, since the symbol is the function's name as written.
///     auto r = SHUNT_REDIRECT(malloc, failing_malloc, {.callers = {"libparser.so*"}});
#define SHUNT_REDIRECT(function, replacement, ...)                                                 \
  ([&] {                                                                                           \
    static_assert(decltype(::shunt::detail::same_call(&(function), &(replacement)))::value,        \
                  "the replacement of " #function " has another type");                            \
    return ::shunt::redirect(#function, &(replacement)__VA_OPT__(, ::shunt::Options __VA_ARGS__)); \
  }())

namespace detail {
// Unevaluated: do two functions take the same call? noexcept does not matter, glibc declares its functions so.
template <class R, class... A>
std::true_type same_call(R (*)(A...), R (*)(A...));
template <class R, class... A>
std::true_type same_call(R (*)(A..., ...), R (*)(A..., ...));
std::false_type same_call(...);
}  // namespace detail

/// What a transaction would write. Immutable; nothing has been written.
class Plan {
 public:
  explicit Plan(shunt_plan *plan) : plan_(plan) {}
  [[nodiscard]] std::size_t redirects() const { return shunt_plan_redirects(plan_.get()); }
  [[nodiscard]] std::size_t slots() const { return shunt_plan_slots(plan_.get()); }
  [[nodiscard]] shunt_slot_info slot(std::size_t k) const {
    shunt_slot_info info{};
    shunt_plan_slot(plan_.get(), k, &info);
    return info;
  }
  [[nodiscard]] const char *symbol(std::size_t k) const { return shunt_plan_symbol(plan_.get(), k); }
  [[nodiscard]] const char *provider(std::size_t k) const { return shunt_plan_provider(plan_.get(), k); }
  [[nodiscard]] void *original(std::size_t k) const { return shunt_plan_original(plan_.get(), k); }
  /// What would become of the entry of the k-th redirect's function. Its strings live as long as the plan.
  [[nodiscard]] shunt_entry_info entry(std::size_t k) const {
    shunt_entry_info info{};
    info.size = sizeof info;
    shunt_plan_entry(plan_.get(), k, &info);
    return info;
  }
  /// Which calls are reached, which are not, and why, as text.
  [[nodiscard]] const char *coverage() const { return shunt_plan_coverage(plan_.get()); }
  [[nodiscard]] Result<Change> commit() const {
    shunt_change *change = nullptr;
    shunt_error *error = nullptr;
    if (shunt_plan_commit(plan_.get(), &change, &error) != SHUNT_OK) return Error(error);
    return Change(change);
  }

 private:
  detail::Owned<shunt_plan, &shunt_plan_free> plan_;
};

/// Any number of redirects, applied all or none.
class Transaction {
 public:
  static Result<Transaction> create() {
    shunt_transaction *transaction = nullptr;
    shunt_error *error = nullptr;
    if (shunt_transaction_new(&transaction, &error) != SHUNT_OK) return Error(error);
    return Transaction(transaction);
  }
  template <class Function>
  requires std::is_function_v<Function> Result<void> add(const char *symbol, Function *replacement,
                                                         const Options &options = {}) {
    return add(symbol, reinterpret_cast<void *>(replacement), options);
  }
  Result<void> add(const char *symbol, void *replacement, const Options &options = {}) {
    shunt_error *error = nullptr;
    const shunt_code code = detail::with_c_options(options, [&](const shunt_options *c_options) {
      return shunt_transaction_add(transaction_.get(), symbol, replacement, c_options, &error);
    });
    return detail::done(code, error);
  }
  [[nodiscard]] Result<Plan> plan() const {
    shunt_plan *plan = nullptr;
    shunt_error *error = nullptr;
    if (shunt_transaction_plan(transaction_.get(), &plan, &error) != SHUNT_OK) return Error(error);
    return Plan(plan);
  }
  [[nodiscard]] Result<Change> apply() const {
    shunt_change *change = nullptr;
    shunt_error *error = nullptr;
    if (shunt_transaction_apply(transaction_.get(), &change, &error) != SHUNT_OK) return Error(error);
    return Change(change);
  }

 private:
  explicit Transaction(shunt_transaction *transaction) : transaction_(transaction) {}
  detail::Owned<shunt_transaction, &shunt_transaction_free> transaction_;
};

/// A patch library. Reverted when it goes out of scope while applied, unless keep() was called.
class Patch {
 public:
  /// Takes a patch over from C. It must not be NULL.
  explicit Patch(shunt_patch *patch) : patch_(patch) {}
  static Result<Patch> load(const char *path, const PatchOptions &options = {}) {
    const detail::StringArray symbols(options.symbols);
    const detail::StringArray callers(options.callers);
    const detail::StringArray not_callers(options.not_callers);
    const detail::StringArray also(options.also);
    const shunt_patch_options c_options = {sizeof c_options,
                                           symbols.get(),
                                           callers.get(),
                                           not_callers.get(),
                                           detail::or_null(options.provider),
                                           static_cast<shunt_reach>(options.reach),
                                           also.get(),
                                           options.keep ? 1 : 0,
                                           options.dlsym ? 1 : 0};
    shunt_patch *patch = nullptr;
    shunt_error *error = nullptr;
    if (shunt_patch_load(path, &c_options, &patch, &error) != SHUNT_OK) return Error(error);
    return Patch(patch);
  }
  Patch(Patch &&) = default;
  Patch &operator=(Patch &&other) noexcept {
    if (this != &other) {
      end();
      patch_ = std::move(other.patch_);
    }
    return *this;
  }
  ~Patch() { end(); }

  [[nodiscard]] Result<Plan> plan() const {
    shunt_plan *plan = nullptr;
    shunt_error *error = nullptr;
    if (shunt_patch_plan(patch_.get(), &plan, &error) != SHUNT_OK) return Error(error);
    return Plan(plan);
  }
  Result<void> apply() {
    shunt_error *error = nullptr;
    const shunt_code code = shunt_patch_apply(patch_.get(), &error);
    return detail::done(code, error);
  }
  Result<void> revert() {
    shunt_error *error = nullptr;
    const shunt_code code = shunt_patch_revert(patch_.get(), &error);
    return detail::done(code, error);
  }
  /// Waits until the code of the reverted patch is unloaded. See shunt_patch_wait().
  Result<void> wait(std::chrono::milliseconds at_most) {
    shunt_error *error = nullptr;
    const shunt_code code = shunt_patch_wait(patch_.get(), static_cast<int>(at_most.count()), &error);
    return detail::done(code, error);
  }
  /// What has become of its code, with the threads that are in the way. See shunt_patch_draining().
  [[nodiscard]] shunt_draining draining() const {
    shunt_draining answer{};
    answer.size = sizeof answer;
    answer.text = "";
    shunt_patch_draining(patch_.get(), &answer, nullptr);
    return answer;
  }
  void keep() { patch_.reset(); }
  [[nodiscard]] bool is_applied() const { return shunt_patch_change(patch_.get()) != nullptr; }
  [[nodiscard]] std::size_t slots() const { return shunt_change_slots(shunt_patch_change(patch_.get())); }
  [[nodiscard]] std::size_t entries() const { return shunt_change_entries(shunt_patch_change(patch_.get())); }
  [[nodiscard]] std::size_t conflicts() const { return shunt_change_conflicts(shunt_patch_change(patch_.get())); }
  [[nodiscard]] const char *name() const { return shunt_patch_name(patch_.get()); }
  [[nodiscard]] void *symbol(const char *name) const { return shunt_patch_symbol(patch_.get(), name); }

 private:
  void end() {
    if (patch_ && is_applied()) shunt_patch_revert(patch_.get(), nullptr);
    patch_.reset();
  }
  detail::Owned<shunt_patch, &shunt_patch_free> patch_;
};

/// How the process is reached from outside: shunt_control_options with C++ types.
struct ControlOptions {
  std::string socket = {};  // "off": none
  std::vector<std::string> patches = {};
  std::string folder = {};
  int signal = 0;
};

/// Later objects are redirected before their constructors run. See shunt_watch_loads().
inline Result<void> watch_loads() {
  shunt_error *error = nullptr;
  const shunt_code code = shunt_watch_loads(&error);
  return detail::done(code, error);
}

/// Starts the control thread. See shunt_control_start().
inline Result<void> start_control(const ControlOptions &options = {}) {
  const detail::StringArray patches(options.patches);
  const shunt_control_options c_options = {sizeof c_options, detail::or_null(options.socket), patches.get(),
                                           detail::or_null(options.folder), options.signal};
  shunt_error *error = nullptr;
  const shunt_code code = shunt_control_start(&c_options, &error);
  return detail::done(code, error);
}

}  // namespace shunt
