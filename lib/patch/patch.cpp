#include "patch/patch.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.hpp"
#include "patch/exports.hpp"

namespace shunt::core {
namespace {

Error unreadable(const char *name, const char *what) {
  const int number = errno;
  Error error = make_error(Code::patch_unreadable, "%s: %s: %s", name, what, errno_text(number).c_str());
  error.object = name;
  error.sys_errno = number;
  return error;
}

/// A private copy that nobody can change any more.
Result<Fd> private_copy(int fd, const char *name) {
  struct stat status {};
  if (fstat(fd, &status) != 0) return unreadable(name, "cannot be examined");
  if (!S_ISREG(status.st_mode)) {
    errno = EINVAL;
    return unreadable(name, "is not a regular file");
  }
  const char *slash = std::strrchr(name, '/');
  const std::string label = std::string(slash != nullptr ? slash + 1 : name).substr(0, 200);
#ifndef MFD_EXEC
  constexpr unsigned MFD_EXEC = 0x10U;  // Linux 6.3: needed where vm.memfd_noexec is 1
#endif
  int memory = memfd_create(label.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
  if (memory < 0 && errno == EINVAL) memory = memfd_create(label.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (memory < 0) return unreadable(name, "cannot be copied (memfd_create)");
  Fd copy(memory);
  std::vector<char> buffer(std::size_t{64} << 10);
  for (off_t offset = 0;;) {
    const ssize_t got = pread(fd, buffer.data(), buffer.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return unreadable(name, "cannot be read");
    if (got == 0) break;
    for (ssize_t done = 0; done < got;) {
      const ssize_t put = write(copy.get(), buffer.data() + done, static_cast<std::size_t>(got - done));
      if (put < 0 && errno == EINTR) continue;
      if (put <= 0) return unreadable(name, "cannot be copied");
      done += put;
    }
    offset += got;
  }
  if (fcntl(copy.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0)
    return unreadable(name, "cannot be sealed");
  return copy;
}

/// The path to load the copy by. The dynamic linker takes a path that it has seen for the object loaded under it, and numbers
/// of closed descriptors come back, so a number is taken that no loaded object is known by.
Result<std::string> path_to_load(Fd &copy, const char *name) {
  for (int floor = copy.get();;) {
    const std::string path = "/proc/self/fd/" + std::to_string(copy.get());
    bool is_taken = false;
    const Problem problem = Engine::instance().look_at_all([&](std::span<const Object> objects) {
      is_taken = std::any_of(objects.begin(), objects.end(), [&](const Object &object) { return path == object.path; });
    });
    if (problem) return problem.to_error();
    if (!is_taken) return path;
    const int next = fcntl(copy.get(), F_DUPFD_CLOEXEC, floor + 1);
    if (next < 0) return unreadable(name, "cannot get another descriptor");
    copy = Fd(next);
    floor = next;
  }
}

/// The names that the file needs and nobody in the process defines; what the dynamic linker would not say, since it stops at
/// the first.
std::string names_nobody_defines(const Image &file) {
  std::string names;
  const std::vector<std::string> undefined = undefined_symbols(file);
  std::vector<char> is_defined(undefined.size());
  (void)Engine::instance().look_at_all([&](std::span<const Object> objects) {
    for (std::size_t k = 0; k < undefined.size(); ++k) {
      const SymbolName symbol(undefined[k].c_str());
      is_defined[k] = std::any_of(objects.begin(), objects.end(), [&](const Object &object) {
        return object.is_readable && find_definition_at(object.image, symbol, 0) != nullptr;
      });
    }
  });
  for (std::size_t k = 0; k < undefined.size(); ++k)
    if (is_defined[k] == 0) names += (names.empty() ? "" : ", ") + undefined[k];
  return names;
}

}  // namespace

Result<std::unique_ptr<Patch>> Patch::load(int fd, const char *name, const PatchOptions &options) {
  auto copy = private_copy(fd, name);
  if (!copy) return copy.error();
  const auto file = FileImage::read(copy->get(), name);
  if (!file) return file.error();
  const auto replacements = choose_replacements(file->image(), name, options.symbols);
  if (!replacements) return replacements.error();
  const auto path = path_to_load(*copy, name);
  if (!path) return path.error();

  std::unique_ptr<Patch> patch(new Patch(name));
  patch->handle_ = dlopen(path->c_str(), RTLD_NOW | RTLD_LOCAL);
  if (patch->handle_ == nullptr) {
    const char *said = dlerror();
    const std::string linker = said != nullptr ? said : "no reason given";
    const std::string names = names_nobody_defines(file->image());
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

  const auto filter =
      std::make_shared<const CallerFilter>(CallerFilter{options.callers, options.not_callers, 0, patch->inside_});
  for (const Replacement &one : *replacements) {
    const auto function = reinterpret_cast<std::uintptr_t>(dlsym(patch->handle_, one.replacement.c_str()));
    auto request = std::make_shared<Request>(one.symbol, function);
    request->filter = filter;
    request->provider = options.provider;
    request->is_optional = options.symbols.empty();
    patch->requests_.push_back(std::move(request));
  }
  LoadedPatch loaded{patch->inside_, {}};
  for (const Replacement &one : *replacements) loaded.symbols.push_back(one.symbol);
  Engine::instance().add_patch(std::move(loaded));
  log(SHUNT_LOG_INFO, "loaded %s: %zu functions", name, patch->requests_.size());
  return patch;
}

Patch::~Patch() {
  if (change_ != nullptr && change_->is_applied)
    static_cast<void>(change_.release());  // stands for the life of the process
  if (handle_ == nullptr || was_applied_) return;
  Engine::instance().remove_patch(inside_);
  dlclose(handle_);
}

std::optional<Error> Patch::nothing_matches(const Plan &plan) const {
  if (!plan.list.slots.empty()) return std::nullopt;
  std::string names;
  for (const auto &request : requests_) names += (names.empty() ? "" : ", ") + request->symbol;
  Error error = make_error(Code::patch_matches_nothing, "%s: no loaded object calls through a slot what it exports: %s",
                           name_.c_str(), names.c_str());
  error.object = name_;
  return error;
}

Result<std::unique_ptr<Plan>> Patch::plan() const {
  auto plan = Engine::instance().plan(requests_);
  if (!plan) return plan.error();
  if (auto nothing = nothing_matches(**plan)) return *nothing;
  return plan;
}

Result<Done> Patch::apply() {
  if (change() != nullptr) return make_error(Code::wrong_state, "%s is applied already", name_.c_str());
  auto applied = Engine::instance().apply(requests_);
  if (!applied) {
    if (applied.error().code != Code::patch_matches_nothing) return applied.error();
    return *nothing_matches(Plan());
  }
  change_ = std::move(*applied);
  was_applied_ = true;
  return Done{};
}

Result<Done> Patch::revert() {
  if (change() == nullptr) return make_error(Code::wrong_state, "%s is not applied", name_.c_str());
  return Engine::instance().revert(*change_);
}

void *Patch::symbol(const char *symbol) const { return dlsym(handle_, symbol); }

}  // namespace shunt::core
