#include "patch/patch.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.hpp"

namespace shunt::core {
namespace {

/// The path to load the copy by. The dynamic linker takes a path that it has seen for the object loaded under it, and numbers
/// of closed descriptors come back, so a number is taken that no loaded object is known by.
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

}  // namespace

Result<std::unique_ptr<Patch>> Patch::load(int fd, const char *name, const PatchOptions &options) {
  auto file = PatchFile::read(fd, name, options);
  if (!file) return file.error();
  return load(std::move(*file), options);
}

Result<std::unique_ptr<Patch>> Patch::load(PatchFile file, const PatchOptions &options) {
  const char *const name = file.facts().file.c_str();
  const auto path = path_to_load(file.copy(), name);
  if (!path) return path.error();

  std::unique_ptr<Patch> patch(new Patch(file.facts()));
  LoadedPatch loaded{*path, name, {}, 0};
  for (const Replacement &one : file.replacements()) loaded.symbols.push_back(one.symbol);
  Engine::instance().add_patch(std::move(loaded));
  patch->linked_ = *path;
  patch->handle_ = dlopen(path->c_str(), RTLD_NOW | RTLD_LOCAL);
  if (patch->handle_ == nullptr) {
    const char *said = dlerror();
    std::string linker = said != nullptr ? said : "no reason given";
    if (linker.rfind(*path + ": ", 0) == 0) linker.erase(0, path->size() + 2);  // its name is said already
    const std::string names = file.names_nobody_defines();
    const bool is_undefined = linker.find("undefined symbol") != std::string::npos;
    Error error = make_error(
        is_undefined ? Code::patch_undefined_symbols : Code::patch_not_loadable, "%s cannot be loaded: %s%s", name,
        is_undefined && !names.empty() ? "nobody defines " : linker.c_str(), is_undefined ? names.c_str() : "");
    error.object = name;
    error.symbol = names.substr(0, names.find(','));
    return error;
  }
  link_map *map = nullptr;
  dlinfo(patch->handle_, RTLD_DI_LINKMAP, &map);
  patch->inside_ = reinterpret_cast<std::uintptr_t>(map->l_ld);
  Engine::instance().place_patch(*path, patch->inside_);

  const auto filter =
      std::make_shared<const CallerFilter>(CallerFilter{options.callers, options.not_callers, 0, patch->inside_});
  for (const Replacement &one : file.replacements()) {
    const auto function = reinterpret_cast<std::uintptr_t>(dlsym(patch->handle_, one.replacement.c_str()));
    auto request = std::make_shared<Request>(one.symbol, function);
    request->filter = filter;
    request->provider = options.provider;
    request->reach = options.reach;
    request->also = options.also;
    request->is_optional = options.symbols.empty();
    patch->requests_.push_back(std::move(request));
  }
  patch->replacements_ = file.replacements();
  log(SHUNT_LOG_INFO, "loaded %s: %zu functions", name, patch->requests_.size());
  return patch;
}

Patch::~Patch() {
  if (change_ != nullptr && change_->is_applied)
    static_cast<void>(change_.release());  // stands for the life of the process
  if (was_applied_) return;
  if (handle_ != nullptr) dlclose(handle_);
  Engine::instance().remove_patch(linked_);
}

Result<std::unique_ptr<Plan>> Patch::plan() const {
  auto plan = Engine::instance().plan(requests_);
  if (!plan) return plan.error();
  if ((*plan)->is_empty()) return nothing_matches(name(), requests_);
  return plan;
}

Result<Done> Patch::apply() {
  if (change() != nullptr) return make_error(Code::wrong_state, "%s is applied already", name().c_str());
  if (const auto watched = Engine::instance().watch_loads(); !watched)
    log(SHUNT_LOG_INFO, "objects that are loaded later are redirected when shunt is asked next: %s",
        watched.error().message.c_str());
  auto applied = Engine::instance().apply(requests_);
  if (!applied) {
    if (applied.error().code != Code::patch_matches_nothing) return applied.error();
    return nothing_matches(name(), requests_);
  }
  change_ = std::move(*applied);
  was_applied_ = true;
  return Done{};
}

Result<Done> Patch::revert() {
  if (change() == nullptr) return make_error(Code::wrong_state, "%s is not applied", name().c_str());
  return Engine::instance().revert(*change_);
}

void *Patch::symbol(const char *symbol) const { return dlsym(handle_, symbol); }

}  // namespace shunt::core
