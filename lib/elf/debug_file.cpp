#include "elf/debug_file.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "base/sha256.hpp"
#include "base/trust.hpp"

namespace shunt::core {
namespace {

bool is_same_id(std::span<const std::uint8_t> one, std::span<const std::uint8_t> other) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end());
}

class Search {
 public:
  Search(const DebugFileQuestion &question, std::string &why) : question_(question), why_(why) {}

  std::optional<SymbolFile> run() {
    if (question_.build_id.size() >= 2) {
      const std::string id = to_hex(question_.build_id.data(), question_.build_id.size());
      const std::string path =
          std::string(question_.root) + "/.build-id/" + id.substr(0, 2) + '/' + id.substr(2) + ".debug";
      if (is_good(path, false)) return std::move(file_);
    }
    const std::string link = question_.object != nullptr ? question_.object->debug_link() : "";
    if (!link.empty()) {
      const std::string folder = folder_of(question_.object->path());
      for (const std::string &path :
           {folder + link, folder + ".debug/" + link, std::string(question_.root) + folder + link})
        if (is_good(path, true)) return std::move(file_);
    }
    if (why_.empty()) why_ = "it has neither a build-id nor a debug link that would lead to a debug file";
    return std::nullopt;
  }

 private:
  /// With a slash at its end, and without symbolic links: /lib is one, and below the root the files lie under its target.
  static std::string folder_of(const std::string &path) {
    const std::unique_ptr<char, decltype(&std::free)> real(realpath(path.c_str(), nullptr), &std::free);
    const std::string whole = real != nullptr ? real.get() : path;
    const std::size_t slash = whole.rfind('/');
    return slash == std::string::npos ? "./" : whole.substr(0, slash + 1);
  }

  bool is_good(const std::string &path, bool is_linked) {
    std::string wrong;
    if (SymbolFile::open(path.c_str(), file_, wrong)) wrong = why_not(is_linked);
    if (wrong.empty()) return true;
    why_ += (why_.empty() ? "" : "; ") + path + ' ' + wrong;
    return false;
  }

  std::string why_not(bool is_linked) {
    struct stat status {
    }, own{};
    if (fstat(file_.fd(), &status) != 0) return "cannot be examined";
    const bool has_owner = question_.object != nullptr && fstat(question_.object->fd(), &own) == 0;
    if (has_owner && status.st_uid == own.st_uid) status.st_uid = 0;  // who owns the object may say what is in it
    if (const char *why = why_not_trusted(status)) return std::string("is not trusted: ") + why;
    const bool has_both = !file_.build_id().empty() && !question_.build_id.empty();
    if ((!is_linked || has_both) && !is_same_id(file_.build_id(), question_.build_id)) return "has another build-id";
    std::uint32_t sum = 0;  // of all of the file: only where no build-id has proved it already
    if (!has_both && (!file_.sum(sum) || sum != question_.object->debug_link_sum()))
      return "is not the file that the debug link means (its sum is another)";
    return file_.has_symbols() ? "" : "has no symbol table";
  }

  const DebugFileQuestion &question_;
  std::string &why_;
  SymbolFile file_;
};

}  // namespace

std::optional<SymbolFile> find_debug_file(const DebugFileQuestion &question, std::string &why) {
  why.clear();
  return Search(question, why).run();
}

}  // namespace shunt::core
