#include "patch/patch_code.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "base/syscalls.hpp"
#include "threads/thread_list.hpp"

namespace shunt::core {
namespace {

constexpr const char *kCoroutines =
    "there are coroutines in this program (a thread ran on a stack of its own making, or an object calls "
    "swapcontext()), and one that is suspended may return into it";

// Once it is known it stays so.
std::atomic<bool> has_coroutines = false;

/// Coroutines that were all suspended whenever the threads were asked are seen by what their switches call.
void look_for_coroutines() {
  if (has_coroutines.load()) return;
  const auto imports = Engine::instance().imports({"swapcontext", "jump_fcontext"}, {});
  if (imports && imports->rows.size() != 0) has_coroutines.store(true);
}

/// The path to load the copy by. The dynamic linker takes a path that it has seen for the object loaded under it, and
/// numbers of closed descriptors come back, so a number is taken that no loaded object is known by.
Result<std::string> path_to_load(Fd &copy, const char *name) {
  for (int floor = copy.get();;) {
    const std::string path = "/proc/self/fd/" + std::to_string(copy.get());
    bool is_taken = false;
    const Problem problem = Engine::instance().look_at_all([&](std::span<const Object> objects) {
      is_taken =
          std::any_of(objects.begin(), objects.end(), [&](const Object &object) { return path == object.linked; });
    });
    if (problem) return problem.to_error();
    if (!is_taken) return path;
    const int next = fcntl(copy.get(), F_DUPFD_CLOEXEC, floor + 1);
    if (next < 0) return file_error(Code::patch_unreadable, name, "gets no other descriptor", errno);
    copy = Fd(next);
    floor = next;
  }
}

Error not_loadable(PatchFile &file, const std::string &path) {
  const char *const name = file.facts().file.c_str();
  const char *said = dlerror();
  std::string linker = said != nullptr ? said : "no reason given";
  if (linker.rfind(path + ": ", 0) == 0) linker.erase(0, path.size() + 2);  // its name is said already
  const std::string names = file.names_nobody_defines();
  const bool is_undefined = linker.find("undefined symbol") != std::string::npos;
  Error error = make_error(
      is_undefined ? Code::patch_undefined_symbols : Code::patch_not_loadable, "%s cannot be loaded: %s%s", name,
      is_undefined && !names.empty() ? "nobody defines " : linker.c_str(), is_undefined ? names.c_str() : "");
  error.object = name;
  error.symbol = names.substr(0, names.find(','));
  return error;
}

/// dlclose() does nothing then (ld(1), -z nodelete).
bool is_never_deleted(const link_map &map) {
  for (const ElfW(Dyn) *entry = map.l_ld; entry->d_tag != DT_NULL; ++entry)
    if (entry->d_tag == DT_FLAGS_1) return (entry->d_un.d_val & DF_1_NODELETE) != 0;
  return false;
}

bool defines_unique_symbols(const Image &image) {
  for (std::uint32_t k = 0; k < image.symbol_limit(); ++k)
    if (ELF64_ST_BIND(image.symbol(k).st_info) == STB_GNU_UNIQUE && image.symbol(k).st_shndx != SHN_UNDEF) return true;
  return false;
}

}  // namespace

// ---- what is said

const char *state_name(Fate::State state) {
  static constexpr const char *kNames[] = {"in_place", "draining", "unloaded", "kept"};
  return kNames[static_cast<std::size_t>(state)];
}

std::string doing_of(const Obstacle &thread) {
  return thread.call >= 0 ? std::string("asleep in ") + call_name(thread.call) : thread.why;
}

std::string text_of(const Fate &fate) {
  switch (fate.state) {
    case Fate::State::in_place:
      return "its code is in place";
    case Fate::State::unloaded:
      return "its code is unloaded";
    case Fate::State::kept:
      return "its code stays: " + fate.why;
    case Fate::State::draining:
      break;
  }
  std::vector<std::pair<std::string, std::vector<int>>> groups;
  for (const Obstacle &thread : fate.threads) {
    const std::string doing = doing_of(thread);
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const auto &one) { return one.first == doing; });
    if (same != groups.end())
      same->second.push_back(thread.thread);
    else
      groups.push_back({doing, {thread.thread}});
  }
  std::string text = fate.why;
  for (const auto &[doing, threads] : groups) {
    text += (text.empty() ? "" : ", ") + std::string(threads.size() > 1 ? "threads " : "thread ");
    for (const int thread : threads) text += (thread == threads.front() ? "" : ", ") + std::to_string(thread);
    text += " (" + doing + ")";
  }
  return "still draining" + (text.empty() ? "" : ": " + text);
}

// ---- loading

Result<std::shared_ptr<PatchCode>> PatchCode::load(PatchFile &file) {
  const char *const name = file.facts().file.c_str();
  const auto path = path_to_load(file.copy(), name);
  if (!path) return path.error();
  std::shared_ptr<PatchCode> code(new PatchCode);
  code->linked_ = *path;
  LoadedPatch loaded{*path, name, {}, 0};
  for (const Replacement &one : file.replacements()) loaded.symbols.push_back(one.symbol);
  Engine::instance().add_patch(std::move(loaded));
  code->bystanders_.note_sleepers();
  void *const handle = dlopen(path->c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return not_loadable(file, *path);
  code->handle_.store(handle);
  link_map *map = nullptr;
  dlinfo(handle, RTLD_DI_LINKMAP, &map);
  code->base_ = map->l_addr;
  code->inside_ = reinterpret_cast<std::uintptr_t>(map->l_ld);
  const std::uintptr_t page = sys::page_size(), moved_by = code->base_ - file.image().base();
  code->begin_ = (file.image().low() + moved_by) / page * page;
  code->end_ = (file.image().high() + moved_by + page - 1) / page * page;
  if (is_never_deleted(*map)) code->why_never_unloaded_ = "it was linked with -z nodelete";
  code->why_kept_by_linker_ =
      defines_unique_symbols(file.image())
          ? "the dynamic linker keeps it for its unique symbols (compile with -fno-gnu-unique)"
          : "the dynamic linker keeps it: thread-local variables are still to be destroyed, or another library uses it";
  Engine::instance().place_patch(*path, code->inside_);
  return code;
}

PatchCode::~PatchCode() {
  const auto is_unused = [this] { return life_->uses == 0; };
  std::string symbol;
  if (!life_->is_loaded || Engine::instance().end_life(*life_, begin_, end_, is_unused, symbol) != Engine::Ended::yes)
    return;
  if (void *const handle = handle_.load()) dlclose(handle);
  Engine::instance().remove_patch(linked_);
}

void *PatchCode::symbol(const char *name) {
  lookups_.fetch_add(1);
  void *const handle = hands_out_.load() ? handle_.load() : nullptr;
  void *const found = handle != nullptr ? dlsym(handle, name) : nullptr;
  lookups_.fetch_sub(1);
  return found;
}

// ---- unloading

void Fate::become(State to, const char *reason) noexcept {
  state = to;
  threads.clear();
  try {
    why = reason;
  } catch (const std::bad_alloc &) {
    why.clear();
  }
}

void Fate::become(const Fate &other) noexcept {
  become(other.state, other.why.c_str());
  try {
    threads = other.threads;
  } catch (const std::bad_alloc &) {
    threads.clear();
  }
}

void PatchCode::try_to_unload(std::uintptr_t own_sp, std::uint64_t wait_ns, Fate &found) {
  found.become(Fate::State::draining);
  if (const char *const why = why_kept()) {  // a plan of it was committed, and reverted over another tool's change
    found.become(Fate::State::kept, why);
    return;
  }
  look_for_coroutines();
  const auto is_free = [&] { return !has_coroutines.load() && ask(own_sp, wait_ns, found); };
  std::string symbol;
  switch (Engine::instance().end_life(*life_, begin_, end_, is_free, symbol)) {
    case Engine::Ended::busy:
      found.why = "shunt is at work on this thread";
      return;
    case Engine::Ended::redirected:
      found.why = "a redirect of '" + symbol + "' leads into it";
      return;
    case Engine::Ended::refused:
      if (has_coroutines.load()) found.become(Fate::State::kept, kCoroutines);
      return;
    case Engine::Ended::yes:
      unload(found);
  }
}

/// With the engine held.
bool PatchCode::ask(std::uintptr_t own_sp, std::uint64_t wait_ns, Fate &found) {
  if (uses_asked_ != life_->uses) bystanders_.forget_seen();
  uses_asked_ = life_->uses;
  // Who has begun before is still given an address. That needs the dynamic linker's lock, and whoever has it may wait
  // for the engine.
  if (lookups_.load() != 0) {
    found.why = "a symbol of it is being looked up";
    return false;
  }
  const CodeRange range = {begin_, end_ - begin_, true, 0, 0, {}};
  const std::uint64_t deadline = now_ns() + wait_ns;
  Question question;
  Passing passing;
  Obstacle obstacle;
  const bool is_free = question.open(0, deadline, obstacle) &&
                       question.ask_whether_free(range, bystanders_, own_sp, deadline, passing, obstacle);
  if (question.has_seen_coroutine()) has_coroutines.store(true);
  if (is_free) return !has_coroutines.load();
  question.visit_left([&](const Obstacle &one) { found.threads.push_back(one); });
  if (found.threads.empty()) found.why = obstacle.why;
  return false;
}

void PatchCode::unload(Fate &found) {
  void *const handle = handle_.exchange(nullptr);
  if (handle == nullptr) {
    found.become(Fate::State::kept, "this process was forked while it was being unloaded");
    return;
  }
  while (lookups_.load() != 0) sched_yield();
  dlclose(handle);
  if (is_mapped()) {
    found.become(Fate::State::kept, why_kept_by_linker_);
    return;
  }
  Engine::instance().remove_patch(linked_);
  bystanders_ = {};
  found.become(Fate::State::unloaded);
}

bool PatchCode::is_mapped() const {
  struct Search {
    const PatchCode *code;
    bool is_found;
  } search = {this, false};
  dl_iterate_phdr(
      [](dl_phdr_info *info, std::size_t, void *raw) {
        auto &wanted = *static_cast<Search *>(raw);
        wanted.is_found = info->dlpi_addr == wanted.code->base_ && wanted.code->linked_ == info->dlpi_name;
        return wanted.is_found ? 1 : 0;
      },
      &search);
  return search.is_found;
}

}  // namespace shunt::core
