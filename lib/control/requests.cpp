#include "control/requests.hpp"

#include <new>

#include "base/log.hpp"
#include "control/answers.hpp"
#include "control/lock.hpp"
#include "patch/file_rules.hpp"

namespace shunt::control {
namespace {

using core::Code;
using core::Engine;
using core::Error;
using core::FileFacts;
using core::make_error;
using core::Patch;
using core::PatchFile;
using core::PatchOptions;
using core::Registry;
using core::Result;
using core::Who;

std::string answer_of(const Result<std::string> &made) { return made ? *made : answer_error(made.error()); }

std::string imports(const Request &request) {
  const auto list = Engine::instance().imports(request.symbols, request.callers);
  return list ? answer_imports(*list) : answer_error(list.error());
}

core::Reach reach_of(const std::string &name) {
  for (const core::Reach reach : {core::Reach::slots, core::Reach::entry})
    if (name == core::reach_name(reach)) return reach;
  return core::Reach::automatic;
}

/// A request that is about a patch file, on its way from the descriptor to the slots.
class FileRequest {
 public:
  FileRequest(const Request &request, const core::Fd &file)
      : request_(request),
        options_{request.symbols,         request.callers, request.not_callers, request.provider,
                 reach_of(request.reach), request.also,    request.keep, request.dlsym},
        name_(request.name.empty() ? core::name_of_file(request.file) : request.name) {
    facts_.file = request.file;
    read(file);
  }

  std::string plan() { return error_ ? answer_error(*error_) : answer_plan(planned()); }

  std::string apply(const Who &who) {
    if (error_) {
      Registry::instance().tell_refused(facts_, who, *error_);
      return answer_error(*error_);
    }
    if (is_forced_)
      core::log(SHUNT_LOG_WARNING, "%s is taken by force: %s; by control, uid %u, pid %d", request_.file.c_str(),
                forced_.c_str(), who.uid, who.pid);
    auto loaded = load();
    if (!loaded) {
      Registry::instance().tell_refused(facts_, who, loaded.error());
      return answer_error(loaded.error());
    }
    const std::shared_ptr<Patch> patch(std::move(*loaded));
    const auto applied = Registry::instance().apply(patch, who, name_);
    if (!applied) Registry::instance().let_go(*patch);
    return applied ? answer_of(answer_applied(planned(), *applied)) : answer_error(applied.error());
  }

 private:
  /// All that can be found out without running code of the patch.
  void read(const core::Fd &file) {
    if (auto refused = core::check_patch_file(file.get(), request_.file.c_str())) {
      if (!request_.force_permissions || refused->code != Code::not_permitted) return fail(std::move(*refused));
      is_forced_ = true;
      forced_ = refused->message;
    }
    auto read = PatchFile::read(file.get(), request_.file.c_str(), options_);
    if (!read) return fail(std::move(read.error()));
    facts_ = read->facts();
    replacements_ = read->replacements();
    needs_ = read->needs();
    if (auto taken = Registry::instance().check_name(name_)) return fail(std::move(*taken));
    auto plan = read->plan(options_);
    if (!plan) return fail(std::move(plan.error()));
    plan_ = std::move(*plan);
    file_ = std::move(*read);
  }
  Result<std::unique_ptr<Patch>> load() {
    const core::OwnedMutex::Away away(control_mutex());
    return Patch::load(std::move(*file_), options_);
  }
  void fail(Error error) { error_ = std::move(error); }
  PlannedFile planned() { return {facts_, name_, replacements_, *plan_, needs_}; }

  const Request &request_;
  const PatchOptions options_;
  const std::string name_;
  FileFacts facts_;
  std::vector<core::Replacement> replacements_;
  std::vector<std::string> needs_;
  bool is_forced_ = false;
  std::string forced_;
  std::unique_ptr<core::Plan> plan_;
  std::optional<PatchFile> file_;
  std::optional<Error> error_;
};

std::string revert(const Request &request, const Who &who) {
  // A patch's destructors may run, like its constructors.
  const core::OwnedMutex::Away away(control_mutex());
  const core::Leaving leaving = {request.keep};
  std::vector<Registry::Reverted> reverted;
  if (request.all) {
    const auto error = Registry::instance().revert_all(who, leaving, reverted);
    return error ? answer_error(*error, &reverted) : answer_reverted(reverted);
  }
  auto one = Registry::instance().revert(request.name, who, leaving);
  if (!one) return answer_error(one.error());
  reverted.push_back(std::move(*one));
  return answer_reverted(reverted);
}

std::string answer(const Request &request, const core::Fd &file, const Who &who, const std::string &socket) {
  switch (request.type) {
    case Type::hello:
      return answer_hello(socket);
    case Type::imports:
      return imports(request);
    case Type::plan:
      return FileRequest(request, file).plan();
    case Type::apply:
      return FileRequest(request, file).apply(who);
    case Type::revert:
      return revert(request, who);
    case Type::status:
      return answer_of(answer_status(request.verify));
  }
  return answer_bad_request("the request is unknown here");
}

/// What is said when there is no memory to say it: a constant, short enough to be sent as it is.
constexpr const char *kNoMemory =
    R"({"schema":1,"ok":false,"error":{"code":"out_of_memory","number":2,"message":"the process has no memory for this)"
    R"(","object":"","symbol":"","address":"0x0","errno":0}})";

}  // namespace

std::string answer_to(const Request &request, core::Fd file, const Who &who, const std::string &socket) {
  try {
    if (needs_file(request.type) != file.is_open())
      return answer_bad_request(file.is_open() ? "a descriptor came with a request that needs none"
                                               : "the descriptor of the patch file did not come with the request");
    std::string text = answer(request, file, who, socket);
    if (text.size() <= kMaximumAnswer) return text;
    return answer_error(
        make_error(Code::invalid_argument,
                   "the answer would have %zu bytes, more than the control socket passes on: name symbols or "
                   "callers",
                   text.size()));
  } catch (const std::bad_alloc &) {
    return kNoMemory;
  }
}

std::string answer_bad_request(const std::string &why) {
  return answer_error(make_error(Code::bad_request, "the request is not understood: %s", why.c_str()));
}

}  // namespace shunt::control
