#include "control/answers.hpp"

#include <sys/auxv.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/sha256.hpp"
#include "control/json.hpp"
#include "control/protocol.hpp"

namespace shunt::control {
namespace {

using core::Beside;
using core::Record;
using core::Registry;
using core::Result;
using core::StandingChange;

constexpr int kSchema = 1;

Json begin(bool ok) {
  Json json;
  json.begin_object().key("schema").number(kSchema).key("ok").boolean(ok);
  return json;
}

std::string end(Json json) { return json.end_object().take(); }

void write_count(Json &json, const char *key, std::size_t count) {
  json.key(key).number(static_cast<std::int64_t>(count));
}

void write_strings(Json &json, const char *key, const std::vector<std::string> &strings) {
  json.key(key).begin_array();
  for (const std::string &one : strings) json.string(one);
  json.end_array();
}

// ---- plan

const char *beside_name(Beside what) {
  static constexpr const char *kNames[] = {"other_version", "other_provider", "unprovided", "canonical",
                                           "unaligned",     "text",           "far",        "addend",
                                           "foreign",       "layered",        "lazy",       "beneath"};
  static_assert(std::size(kNames) == static_cast<std::size_t>(Beside::kCount));
  return kNames[static_cast<std::size_t>(what)];
}

bool is_taken(Beside what) {
  return what == Beside::canonical || what == Beside::foreign || what == Beside::layered || what == Beside::lazy;
}

void write_file(Json &json, const core::FileFacts &facts) {
  json.key("file").string(facts.file).key("build_id").string(facts.build_id).key("sha256").string(facts.sha256);
  write_count(json, "size", facts.size);
}

/// The objects that hold slots of one redirect, with how many.
void write_callers(Json &json, const core::Plan &plan, std::uint32_t redirect) {
  json.key("callers").begin_array();
  for (const core::Span &span : plan.list.spans) {
    const core::Slot *const first = plan.list.slots.data() + span.first;
    const auto slots =
        std::count_if(first, first + span.count, [&](const core::Slot &one) { return one.redirect == redirect; });
    if (slots > 0) json.begin_object().key("object").string(span.path).key("slots").number(slots).end_object();
  }
  json.end_array();
}

void write_entry(Json &json, const core::Plan &plan, std::uint32_t k) {
  const core::PlannedEntry *const entry = plan.entry_of(k), *const known = plan.known_entry(k);
  json.key("entry").begin_object().key("chosen").boolean(entry != nullptr);
  json.key("address").address(entry != nullptr ? plan.redirects[k].function + entry->plan.site : 0);
  json.key("form").string(entry != nullptr ? core::arch::form_name(entry->plan.form) : "");
  json.key("why").string(plan.entry_why(k));
  json.key("names").begin_array();
  if (known != nullptr)
    for (const std::string &name : known->names) json.string(name);
  json.end_array().key("names_from").string(known != nullptr ? known->names_from : "").end_object();
}

void write_function(Json &json, const PlannedFile &file, std::uint32_t k) {
  const core::PlannedRedirect &redirect = file.plan.redirects[k];
  json.begin_object().key("symbol").string(file.plan.requests[k]->symbol);
  json.key("replacement").string(file.replacements[k].replacement).key("provider").string(redirect.provider);
  write_count(json, "slots", redirect.slots);
  write_count(json, "layers_below", redirect.layers_below);
  json.key("dlsym").boolean(file.plan.requests[k]->dlsym);
  write_callers(json, file.plan, k);
  write_entry(json, file.plan, k);
  json.key("provider_calls_through_slots").boolean(redirect.provider_calls_through_slots);
  json.key("beside").begin_array();
  for (std::size_t b = 0; b < redirect.beside.size(); ++b) {
    const auto what = static_cast<Beside>(b);
    const core::BesideCount &beside = redirect.beside[b];
    if (beside.count == 0) continue;
    json.begin_object().key("reason").string(beside_name(what)).key("taken").boolean(is_taken(what));
    write_count(json, "count", beside.count);
    json.key("example").string(beside.example).key("text").string(core::beside_text(what)).end_object();
  }
  json.end_array().end_object();
}

void write_unread(Json &json, const core::PageVector<core::UnreadObject> &unread) {
  json.key("unread").begin_array();
  for (const core::UnreadObject &one : unread)
    json.begin_object().key("object").string(one.path).key("reason").string(one.reason).end_object();
  json.end_array();
}

/// What leads dlsym() to shunt; null where that is not asked for, or so already.
void write_lookups(Json &json, const core::Plan *lookups) {
  json.key("lookups");
  if (lookups == nullptr) {
    json.null();
    return;
  }
  json.begin_object();
  write_count(json, "slots", lookups->list.slots.size());
  write_count(json, "objects", lookups->list.spans.size());
  json.end_object();
}

void write_plan(Json &json, const PlannedFile &file) {
  json.key("plan").begin_object();
  write_count(json, "slots", file.plan.list.slots.size());
  write_count(json, "entries", file.plan.entry_count());
  write_count(json, "objects", file.plan.list.spans.size());
  json.key("functions").begin_array();
  for (std::uint32_t k = 0; k < file.plan.requests.size(); ++k)
    if (file.plan.does(k)) write_function(json, file, k);
  json.end_array().key("unmatched").begin_array();
  for (std::uint32_t k = 0; k < file.plan.requests.size(); ++k)
    if (!file.plan.does(k)) json.string(file.plan.requests[k]->symbol);
  json.end_array();
  write_unread(json, file.plan.unread);
  write_strings(json, "needs", file.needs);
  write_lookups(json, file.plan.lookups.get());
  json.key("coverage").string(file.plan.coverage()).end_object();
}

// ---- status

/// "2026-11-22T07:44:50.123Z"
std::string utc(const timespec &time) {
  std::tm parts{};
  gmtime_r(&time.tv_sec, &parts);
  char text[64];
  const std::size_t size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + size, sizeof text - size, ".%03ldZ", time.tv_nsec / 1'000'000);
  return text;
}

void write_who(Json &json, const char *key, const core::Who &who) {
  json.key(key).begin_object().key("how").string(core::how_name(who.how));
  json.key("uid").number(who.uid).key("pid").number(who.pid).end_object();
}

void write_objects(Json &json, const StandingChange *change) {
  json.key("objects").begin_array();
  if (change != nullptr) {
    for (const core::StandingObject &one : change->objects) {
      json.begin_object().key("object").string(one.path);
      write_count(json, "slots", one.slots);
      json.end_object();
    }
  }
  json.end_array();
}

void write_layer(Json &json, const core::StandingRedirect &redirect) {
  write_count(json, "slots", redirect.slots);
  json.key("entry").boolean(redirect.has_entry).key("dlsym").boolean(redirect.dlsym);
  write_count(json, "layer", redirect.layer);
  write_count(json, "layers", redirect.layers);
}

/// With the registry held, where it is a record's.
void write_code(Json &json, const core::Fate &fate) {
  json.key("code").begin_object().key("state").string(core::state_name(fate.state)).key("why").string(fate.why);
  json.key("threads").begin_array();
  for (const core::Obstacle &one : fate.threads) {
    json.begin_object().key("thread").number(one.thread).key("address").address(one.at);
    json.key("asleep_in")
        .string(one.call >= 0 ? core::call_name(one.call) : "")
        .key("why")
        .string(one.why)
        .end_object();
  }
  json.end_array().key("text").string(core::text_of(fate)).end_object();
}

/// What a redirect's function is called in the patch.
const char *replacement_name(const Record &record, const std::string &symbol) {
  for (const core::Replacement &one : record.patch->replacements())
    if (one.symbol == symbol) return one.replacement.c_str();
  return "";
}

/// `change`: NULL when it was reverted.
void write_record(Json &json, const Record &record, const StandingChange *change) {
  json.begin_object().key("id").number(static_cast<std::int64_t>(record.id)).key("name").string(record.name);
  write_file(json, record.facts);
  json.key("state").string(change != nullptr ? "applied" : "reverted").key("applied_at").string(utc(record.applied_at));
  write_who(json, "by", record.by);
  if (change != nullptr) {
    json.key("reverted_at").null().key("reverted_by").null();
  } else {
    json.key("reverted_at").string(utc(record.reverted_at));
    write_who(json, "reverted_by", record.reverted_by);
  }
  write_count(json, "slots", record.slots);
  write_count(json, "entries", change != nullptr ? change->entries : record.entries);
  write_count(json, "conflicts", change != nullptr ? change->conflicts : record.conflicts);
  json.key("functions").begin_array();
  if (change != nullptr) {
    for (const core::StandingRedirect &redirect : change->redirects) {
      json.begin_object().key("symbol").string(redirect.symbol);
      json.key("replacement")
          .string(replacement_name(record, redirect.symbol))
          .key("provider")
          .string(redirect.provider);
      write_layer(json, redirect);
      json.end_object();
    }
  }
  json.end_array();
  write_objects(json, change);
  // Of a patch that was reverted and is applied again the code is in use: it is told of the newer record.
  write_code(json, record.code->fate);
  json.end_object();
}

const StandingChange *change_of(const Record &record, const std::vector<StandingChange> &standing) {
  if (record.patch == nullptr) return nullptr;
  const core::Change *const change = record.patch->change();
  const auto found =
      std::find_if(standing.begin(), standing.end(), [&](const StandingChange &one) { return one.change == change; });
  return found != standing.end() ? &*found : nullptr;
}

/// Redirects of changes that no patch made.
void write_redirects(Json &json, const Registry::Records &records, const std::vector<StandingChange> &standing) {
  json.key("redirects").begin_array();
  for (const StandingChange &change : standing) {
    if (std::any_of(records.begin(), records.end(),
                    [&](const auto &record) { return change_of(*record, standing) == &change; }))
      continue;
    for (const core::StandingRedirect &redirect : change.redirects) {
      json.begin_object().key("symbol").string(redirect.symbol).key("provider").string(redirect.provider);
      json.key("replacement_in").string(redirect.replacement_in).key("own").boolean(redirect.is_own);
      write_count(json, "conflicts", change.conflicts);
      write_layer(json, redirect);
      json.end_object();
    }
  }
  json.end_array();
}

void write_verified(Json &json, const std::vector<StandingChange> &standing) {
  std::size_t slots = 0, entries = 0;
  json.key("verified").begin_object().key("conflicts").begin_array();
  for (const StandingChange &change : standing) {
    entries += change.entries;
    for (const core::StandingObject &one : change.objects) slots += one.slots;
    for (const core::ConflictingSlot &one : change.conflicting) {
      json.begin_object().key("object").string(one.object).key("symbol").string(one.request->symbol);
      json.key("address").address(one.address).key("expected").address(one.expected).key("found").address(one.found);
      json.key("found_in").string(one.found_in).key("entry").boolean(one.is_entry).end_object();
    }
  }
  json.end_array();
  write_count(json, "slots", slots);
  write_count(json, "entries", entries);
  json.end_object();
}

void write_reverted(Json &json, const std::vector<Registry::Reverted> &reverted) {
  json.key("reverted").begin_array();
  for (const Registry::Reverted &one : reverted) {
    json.begin_object().key("id").number(static_cast<std::int64_t>(one.id)).key("name").string(one.name);
    write_count(json, "slots", one.slots);
    write_count(json, "entries", one.entries);
    write_count(json, "conflicts", one.conflicts);
    write_code(json, one.fate);
    json.end_object();
  }
  json.end_array();
}

/// The numbers behind "NSpid:" in /proc/self/status.
void write_namespace_pids(Json &json) {
  json.key("namespace_pids").begin_array();
  if (FILE *file = std::fopen("/proc/self/status", "re")) {
    char line[256];
    while (std::fgets(line, sizeof line, file) != nullptr) {
      if (std::strncmp(line, "NSpid:", 6) != 0) continue;
      char *at = line + 6;
      for (char *next = at;; at = next) {
        const long pid = std::strtol(at, &next, 10);
        if (next == at) break;
        json.number(pid);
      }
    }
    std::fclose(file);
  }
  json.end_array();
}

std::string executable() {
  char path[4096];
  const ssize_t size = readlink("/proc/self/exe", path, sizeof path);
  return std::string(path, size > 0 ? static_cast<std::size_t>(size) : 0);
}

/// The same in all processes that came of one start by fork() alone, and in no other: made of the random bytes that the kernel puts
/// on the stack of each new program. Hashed, since the C library takes its canaries from them.
std::string origin() {
  constexpr std::size_t kBytes = 16;  // getauxval(3), AT_RANDOM
  const auto *const bytes = reinterpret_cast<const void *>(getauxval(AT_RANDOM));
  if (bytes == nullptr) return "";
  core::Sha256 hash;
  hash.add(bytes, kBytes);
  return hash.hex();
}

}  // namespace

std::string answer_error(const core::Error &error, const std::vector<Registry::Reverted> *reverted) {
  Json json = begin(false);
  json.key("error").begin_object().key("code").string(core::code_name(error.code));
  json.key("number").number(static_cast<int>(error.code)).key("message").string(error.message);
  json.key("object").string(error.object).key("symbol").string(error.symbol);
  json.key("address").address(error.address).key("errno").number(error.sys_errno).end_object();
  if (reverted != nullptr) write_reverted(json, *reverted);
  return end(std::move(json));
}

std::string answer_hello(const std::string &socket) {
  Json json = begin(true);
  json.key("protocol").number(kProtocol).key("version").string(SHUNT_VERSION_STRING);
  json.key("pid").number(getpid()).key("parent").number(getppid());
  write_namespace_pids(json);
  json.key("uid").number(geteuid()).key("exe").string(executable()).key("socket").string(socket);
  json.key("origin").string(origin());
  return end(std::move(json));
}

std::string answer_imports(const core::ImportList &list) {
  static constexpr const char *kStates[] = {"bound", "lazy", "absent"};
  Json json = begin(true);
  json.key("objects").begin_array();
  std::size_t row = 0;
  for (std::uint32_t k = 0; k < list.objects.size(); ++k) {
    const core::ImportObject &object = list.objects[k];
    json.begin_object().key("object").string(object.path).key("soname").string(list.string(object.soname));
    json.key("build_id").string(core::to_hex(object.build_id, object.build_id_size)).key("imports").begin_array();
    for (; row < list.rows.size() && list.rows[row].object == k; ++row) {
      const core::ImportRow &one = list.rows[row];
      json.begin_object().key("symbol").string(list.string(one.symbol)).key("version").string(list.string(one.version));
      write_count(json, "slots", one.slots);
      json.key("kinds").begin_array();
      for (const auto kind :
           {core::arch::RelocKind::absolute, core::arch::RelocKind::glob_dat, core::arch::RelocKind::jump_slot})
        if ((one.kinds >> static_cast<unsigned>(kind) & 1U) != 0) json.string(core::arch::kind_name(kind));
      json.end_array().key("leads_to").string(one.leads_to);
      json.key("state").string(kStates[static_cast<std::size_t>(one.state)]).end_object();
    }
    json.end_array().end_object();
  }
  json.end_array();
  write_unread(json, list.unread);
  return end(std::move(json));
}

std::string answer_reverted(const std::vector<Registry::Reverted> &reverted) {
  Json json = begin(true);
  write_reverted(json, reverted);
  return end(std::move(json));
}

std::string answer_plan(const PlannedFile &file) {
  Json json = begin(true);
  json.key("patch").begin_object().key("name").string(file.name);
  write_file(json, file.facts);
  json.end_object();
  write_plan(json, file);
  return end(std::move(json));
}

Result<std::string> answer_applied(const PlannedFile &file, const Registry::Applied &applied) {
  Json json = begin(true);
  const auto standing = core::Engine::instance().standing(false);
  if (!standing) return standing.error();
  const auto busy = Registry::instance().look([&](const Registry::Records &, const core::Counters &) {
    const StandingChange *const change = change_of(*applied.record, *standing);
    json.key("patch");
    write_record(json, *applied.record, change);
    write_plan(json, file);
    json.key("written").begin_object();
    write_count(json, "slots", applied.record->slots);
    write_count(json, "entries", applied.record->entries);
    write_objects(json, change);
    json.key("microseconds").number(applied.microseconds).end_object();
  });
  if (busy) return *busy;
  return end(std::move(json));
}

Result<std::string> answer_status(bool verify) {
  Json json = begin(true);
  json.key("pid").number(getpid()).key("version").string(SHUNT_VERSION_STRING);
  std::optional<core::Error> failed;
  const auto busy = Registry::instance().look([&](const Registry::Records &records, const core::Counters &counters) {
    const auto standing = core::Engine::instance().standing(verify);
    if (!standing) {
      failed = standing.error();
      return;
    }
    json.key("patches").begin_array();
    for (const auto &record : records) write_record(json, *record, change_of(*record, *standing));
    json.end_array();
    write_redirects(json, records, *standing);
    const auto later = core::Engine::instance().later_objects();
    json.key("later_objects").begin_object();
    json.key("watched").boolean(later.are_watched);
    write_count(json, "other_namespaces", later.other_namespaces);
    json.end_object();
    json.key("counters").begin_object();
    write_count(json, "applied", counters.applied);
    write_count(json, "reverted", counters.reverted);
    write_count(json, "refused", counters.refused);
    json.end_object();
    if (verify)
      write_verified(json, *standing);
    else
      json.key("verified").null();
  });
  if (busy) return *busy;
  if (failed) return *failed;
  return end(std::move(json));
}

}  // namespace shunt::control
