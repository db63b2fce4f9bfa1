#include "patch/patch_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/sha256.hpp"

namespace shunt::core {
namespace {

Error unreadable(const char *name, const char *what) { return file_error(Code::patch_unreadable, name, what, errno); }

/// A private copy that nobody can change any more.
Result<Fd> private_copy(int fd, const char *name, FileFacts &facts) {
  struct stat status {};
  if (fstat(fd, &status) != 0) return unreadable(name, "cannot be examined");
  if (!S_ISREG(status.st_mode)) {
    errno = EINVAL;
    return unreadable(name, "is not a regular file");
  }
  const auto too_large = [name] {
    errno = EFBIG;
    return unreadable(name, "is larger than 256 MiB");
  };
  constexpr off_t kMaximumSize = off_t{256} << 20;
  if (status.st_size > kMaximumSize) return too_large();
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
  Sha256 hash;
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
    if (offset > kMaximumSize) return too_large();  // it grows while it is read
    hash.add(buffer.data(), static_cast<std::size_t>(got));
    facts.size += static_cast<std::uint64_t>(got);
  }
  if (fcntl(copy.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0)
    return unreadable(name, "cannot be sealed");
  facts.sha256 = hash.hex();
  return copy;
}

}  // namespace

Result<PatchFile> PatchFile::read(int fd, const char *name, const PatchOptions &options) {
  FileFacts facts;
  facts.file = name;
  auto copy = private_copy(fd, name, facts);
  if (!copy) return copy.error();
  auto image = FileImage::read(copy->get(), name);
  if (!image) return image.error();
  const std::span<const std::uint8_t> build_id = image->image().build_id();
  facts.build_id = to_hex(build_id.data(), build_id.size());
  auto replacements = choose_replacements(image->image(), name, options.symbols);
  if (!replacements) return replacements.error();
  return PatchFile(std::move(*copy), std::move(*image), std::move(facts), std::move(*replacements));
}

Result<std::unique_ptr<Plan>> PatchFile::plan(const PatchOptions &options) const {
  const std::string undefined = needs().empty() ? names_nobody_defines() : "";
  if (!undefined.empty()) {
    Error error = make_error(Code::patch_undefined_symbols, "%s cannot be loaded: nobody defines %s",
                             facts_.file.c_str(), undefined.c_str());
    error.object = facts_.file;
    error.symbol = undefined.substr(0, undefined.find(','));
    return error;
  }
  const auto filter = std::make_shared<const CallerFilter>(CallerFilter{options.callers, options.not_callers, 0, 0});
  Requests requests;
  for (const Replacement &one : replacements_) {
    auto request = std::make_shared<Request>(one.symbol, 0);
    request->filter = filter;
    request->provider = options.provider;
    request->reach = options.reach;
    request->also = options.also;
    request->dlsym = options.dlsym;
    request->is_optional = options.symbols.empty();
    requests.push_back(std::move(request));
  }
  auto plan = Engine::instance().plan(requests);
  if (plan && (*plan)->is_empty()) return nothing_matches(facts_.file, requests);
  return plan;
}

std::vector<std::string> PatchFile::needs() const {
  std::vector<std::string> missing;
  for (std::size_t k = 0; image().needed(k) != nullptr; ++k) missing.emplace_back(image().needed(k));
  std::vector<char> is_loaded(missing.size());
  (void)Engine::instance().look_at_all([&](std::span<const Object> objects) {
    for (std::size_t k = 0; k < missing.size(); ++k)
      is_loaded[k] = std::any_of(objects.begin(), objects.end(), [&](const Object &object) {
        const char *slash = std::strrchr(object.linked, '/');
        return missing[k] == object.soname || missing[k] == (slash != nullptr ? slash + 1 : object.linked);
      });
  });
  std::size_t kept = 0;
  for (std::size_t k = 0; k < missing.size(); ++k)
    if (is_loaded[k] == 0) missing[kept++].swap(missing[k]);
  missing.resize(kept);
  return missing;
}

/// The dynamic linker would not say, since it stops at the first.
std::string PatchFile::names_nobody_defines() const {
  std::string names;
  const std::vector<std::string> undefined = undefined_symbols(image());
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

Error nothing_matches(const std::string &name, const Requests &requests) {
  std::string names;
  for (const auto &request : requests) names += (names.empty() ? "" : ", ") + request->symbol;
  const CallerFilter &filter = *requests.front()->filter;
  const bool is_chosen = !filter.callers.empty() || !filter.not_callers.empty() || !requests.front()->provider.empty();
  Error error =
      make_error(Code::patch_matches_nothing, "%s: no loaded object calls through a slot what it exports%s: %s",
                 name.c_str(), is_chosen ? ", with the callers and the provider that were chosen" : "", names.c_str());
  error.object = name;
  return error;
}

}  // namespace shunt::core
