// request.hpp: one redirect as the user asked for it. Immutable once it is part of a transaction.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "elf/symbols.hpp"
#include "engine/loaded_patch.hpp"
#include "objects/object_table.hpp"

namespace shunt::core {

/// By which way calls of a function are redirected. automatic: its slots, and its entry as well where calls that use no slot
/// exist or nobody calls it through one.
enum class Reach : std::uint8_t { automatic, slots, entry };

/// "auto", "slots", "entry".
const char *reach_name(Reach reach);

/// Which objects' slots are meant. Requests with equal filters share one, so that it is evaluated once for each object.
struct CallerFilter {
  std::vector<std::string> callers;
  std::vector<std::string> not_callers;
  std::uintptr_t inside = 0;  // only the object that holds this address; 0: any
  std::uintptr_t patch = 0;   // an address inside the patch, whose own slots lead to the originals; 0: no patch

  bool operator==(const CallerFilter &) const = default;

  /// Is this object a caller that was chosen? Allocates nothing.
  [[nodiscard]] bool chooses(const Object &object) const;
  /// Was the object asked for in particular, so that failing to read it is an error?
  [[nodiscard]] bool names(const Object &object) const;
  /// Somebody's calls are not meant. (A patch's own are none of these: they reach the originals in any case.)
  [[nodiscard]] bool leaves_out() const { return inside != 0 || !callers.empty() || !not_callers.empty(); }
  /// Only few objects are meant.
  [[nodiscard]] bool is_narrow() const { return inside != 0 || !callers.empty(); }
  [[nodiscard]] bool is_patch(const Object &object) const { return patch != 0 && object.contains(patch); }
  /// The calls that are meant are among those that `other` means, as far as the filters show.
  [[nodiscard]] bool is_within(const CallerFilter &other) const {
    return !other.leaves_out() ||
           (callers == other.callers && not_callers == other.not_callers && inside == other.inside);
  }
};

struct Request {
  Request(std::string symbol_name, std::uintptr_t function) : symbol(std::move(symbol_name)), replacement(function) {}
  /// Only some of the calls are meant: those of some callers, or of one version. An entry would reach them all.
  [[nodiscard]] bool is_for_some() const { return filter->leaves_out() || !version.empty(); }
  Request(const Request &) = delete;
  Request &operator=(const Request &) = delete;

  const std::string symbol;
  const SymbolName name{symbol.c_str()};
  const std::uintptr_t replacement;  // 0: of a patch that is not loaded, for a plan that is only looked at
  std::shared_ptr<const CallerFilter> filter;
  std::shared_ptr<CodeLife> life;  // of the replacement's code; NULL: it stays
  std::string provider;            // glob; "" any
  std::string version;             // "" any
  Reach reach = Reach::automatic;
  std::vector<std::string> also;  // further names of the same code that are meant too
  std::uintptr_t *original_cell = nullptr;
  bool is_optional = false;  // a patch's export that the user did not name: matching nothing is no error
  bool dlsym = false;        // dlsym() and dlvsym() answer with the replacement, see dlsym_answers.hpp
  bool is_own = false;       // shunt's own redirect, into shunt
  mutable std::atomic<bool> was_given = false;  // dlsym() has answered with the replacement, and somebody may keep it
};

using Requests = std::vector<std::shared_ptr<const Request>>;

}  // namespace shunt::core
