#include "patch/patch.hpp"

#include "base/log.hpp"

namespace shunt::core {
Result<std::unique_ptr<Patch>> Patch::load(int fd, const char *name, const PatchOptions &options) {
  auto file = PatchFile::read(fd, name, options);
  if (!file) return file.error();
  return load(std::move(*file), options);
}

Result<std::unique_ptr<Patch>> Patch::load(PatchFile file, const PatchOptions &options) {
  const char *const name = file.facts().file.c_str();
  auto code = PatchCode::load(file);
  if (!code) return code.error();
  std::unique_ptr<Patch> patch(new Patch(file.facts()));
  patch->code_ = std::move(*code);
  patch->keeps_code_ = options.keeps_code;

  const auto filter = std::make_shared<const CallerFilter>(
      CallerFilter{options.callers, options.not_callers, 0, patch->code_->inside()});
  for (const Replacement &one : file.replacements()) {
    const auto function = reinterpret_cast<std::uintptr_t>(patch->symbol(one.replacement.c_str()));
    auto request = std::make_shared<Request>(one.symbol, function);
    request->filter = filter;
    request->life = patch->code_->life();
    request->provider = options.provider;
    request->reach = options.reach;
    request->also = options.also;
    request->dlsym = options.dlsym;
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
}

namespace {

Error unloaded(const std::string &name) {
  return make_error(Code::wrong_state, "%s was unloaded after its revert: load it again, or load it so that it is kept",
                    name.c_str());
}

}  // namespace

Result<std::unique_ptr<Plan>> Patch::plan() const {
  if (!code_->life()->is_loaded) return unloaded(name());
  auto plan = Engine::instance().plan(requests_);
  if (!plan) return plan.error();
  if ((*plan)->is_empty()) return nothing_matches(name(), requests_);
  return plan;
}

Result<Done> Patch::apply() {
  if (change() != nullptr) return make_error(Code::wrong_state, "%s is applied already", name().c_str());
  if (!code_->life()->is_loaded) return unloaded(name());
  if (const auto watched = Engine::instance().watch_loads(); !watched)
    log(SHUNT_LOG_INFO, "objects that are loaded later are redirected when shunt is asked next: %s",
        watched.error().message.c_str());
  auto applied = Engine::instance().apply(requests_);
  if (!applied) {
    if (applied.error().code != Code::patch_matches_nothing) return applied.error();
    return nothing_matches(name(), requests_);
  }
  change_ = std::move(*applied);
  return Done{};
}

Result<Done> Patch::revert() {
  if (change() == nullptr) return make_error(Code::wrong_state, "%s is not applied", name().c_str());
  return Engine::instance().revert(*change_);
}

}  // namespace shunt::core
