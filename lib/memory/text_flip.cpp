#include "memory/text_flip.hpp"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/fd.hpp"
#include "base/syscalls.hpp"

namespace shunt::core {
namespace {

constexpr int kSeals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

bool write_all(int fd, const void *from, std::size_t size, std::size_t offset) {
  const auto *bytes = static_cast<const char *>(from);
  while (size > 0) {
    const long written = sys::call(SYS_pwrite64, fd, bytes, size, offset);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes += written;
    size -= static_cast<std::size_t>(written);
    offset += static_cast<std::size_t>(written);
  }
  return true;
}

/// Whether `size` bytes of the file are those in memory at `address`.
bool holds_memory(int fd, std::size_t offset, std::uintptr_t address, std::size_t size) {
  char buffer[2048];
  while (size > 0) {
    const long got = sys::call(SYS_pread64, fd, buffer, std::min(size, sizeof buffer), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || std::memcmp(buffer, reinterpret_cast<const void *>(address), static_cast<std::size_t>(got)) != 0)
      return false;
    size -= static_cast<std::size_t>(got);
    offset += static_cast<std::size_t>(got);
    address += static_cast<std::size_t>(got);
  }
  return true;
}

/// The file that the map names so, opened; and its inode. Not open when there is none, or it cannot be looked at.
Fd open_named(const MapLine &line, struct stat &status) {
  char name[1024];
  if (line.inode == 0 || line.name.size() >= sizeof name) return {};
  std::memcpy(name, line.name.data(), line.name.size());
  name[line.name.size()] = '\0';
  Fd file(static_cast<int>(sys::call(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK)));
  if (file.is_open() && fstat(file.get(), &status) != 0) return {};
  return file;
}

void refuse(Problem &problem, Code code, const TextChange &change, int error, const char *why) {
  if (!problem) {
    problem.sys_errno = error;
    problem.address = change.address;
    problem.object = change.object;
    problem.symbol = change.symbol;
  }
  problem.set(code, "cannot change the code of %s at %#lx of %s: %s", change.symbol, change.address, change.object,
              why);
}

}  // namespace

bool TextFlip::flip(std::span<const TextChange> changes, Problem &problem) {
  if (changes.empty()) return true;
  if (!read_map(changes[0], problem) || !make_runs(changes, problem)) return false;
  bool done = true;
  for (Run &run : runs_)
    done = done && check_pages(run, changes[run.first_change], problem) && copy(run, changes, problem);
  done = done && replace_all(changes, problem);
  for (const Run &run : runs_) {
    return_to_files(run);
    if (run.copies >= 0) Fd{run.copies};
  }
  return done;
}

bool TextFlip::read_map(const TextChange &change, Problem &problem) {
  int failed = read_map_text(map_text_);
  map_.clear();
  std::string_view rest(map_text_.data(), map_text_.size());
  for (MapLine line; failed == 0 && next_map_line(rest, line);)
    if (!map_.push_back(line)) failed = -ENOMEM;
  if (failed != 0) refuse(problem, Code::code_page_refused, change, -failed, "/proc/self/maps cannot be read");
  return failed == 0;
}

bool TextFlip::make_runs(std::span<const TextChange> changes, Problem &problem) {
  const std::uintptr_t page = sys::page_size();
  runs_.clear();
  std::uintptr_t end_before = 0;
  for (std::size_t k = 0; k < changes.size(); ++k) {
    const TextChange &change = changes[k];
    if (change.size == 0 || change.address < end_before || change.address + change.size < change.address) {
      refuse(problem, Code::invalid_argument, change, 0, "changes must be sorted and apart");
      return false;
    }
    end_before = change.address + change.size;
    const std::uintptr_t begin = change.address / page * page, end = (end_before + page - 1) / page * page;
    if (!runs_.empty() && begin <= runs_.back().end) {
      runs_.back().end = std::max(runs_.back().end, end);
      runs_.back().changes += 1;
    } else if (!runs_.push_back({begin, end, k, 1, -1})) {
      refuse(problem, Code::out_of_memory, change, ENOMEM, "no memory to note its pages");
      return false;
    }
  }
  return true;
}

bool TextFlip::check_pages(const Run &run, const TextChange &change, Problem &problem) const {
  for (std::uintptr_t at = run.begin; at < run.end;) {
    const MapLine *const line = line_of(at);
    const char *why = nullptr;
    if (line == nullptr)
      why = "nothing is mapped there";
    else if (line->is_shared)
      why = "its page is a shared mapping, which others may write through";
    else if ((line->protection & PROT_WRITE) != 0)
      why = "its page is writable, so something writes it";
    else if (line->protection != (PROT_READ | PROT_EXEC))
      why = "its page is not code that can be read";
    if (why != nullptr) {
      refuse(problem, Code::code_page_refused, change, 0, why);
      return false;
    }
    at = line->end;
  }
  return true;
}

bool TextFlip::copy(Run &run, std::span<const TextChange> changes, Problem &problem) {
  const TextChange &first = changes[run.first_change];
  const std::size_t size = run.end - run.begin;
  run.copies = sys::memory_file("shunt-code");
  if (run.copies < 0) {
    refuse(problem, Code::code_page_refused, first, -run.copies, "memfd_create was refused");
    return false;
  }
  const auto *pages = reinterpret_cast<const void *>(run.begin);
  bool written = write_all(run.copies, pages, size, size) && write_all(run.copies, pages, size, 0);
  for (std::size_t k = 0; written && k < run.changes; ++k) {
    const TextChange &change = changes[run.first_change + k];
    const auto *present = reinterpret_cast<const void *>(change.address);
    if (change.expected != nullptr && std::memcmp(present, change.expected, change.size) != 0) {
      refuse(problem, Code::code_changed, change, 0, "it is not what the plan saw");
      return false;
    }
    written = write_all(run.copies, change.bytes, change.size, change.address - run.begin);
  }
  if (!written) refuse(problem, Code::out_of_memory, first, ENOMEM, "no memory for a copy of its page");
  // Nobody changes it from here on, whoever finds the descriptor.
  if (written) sys::call(SYS_fcntl, run.copies, F_ADD_SEALS, kSeals);
  return written;
}

bool TextFlip::replace(const Run &run, const TextChange &change, Problem &problem) const {
  const std::size_t size = run.end - run.begin;
  // What another tool wrote since the copy was made would be lost. From here to the call there is no more than this comparison.
  if (!holds_memory(run.copies, size, run.begin, size)) {
    refuse(problem, Code::code_changed, change, 0, "somebody else changes its page at this moment");
    return false;
  }
  const std::intptr_t mapped = sys::map(run.begin, size, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, run.copies, 0);
  if (mapped >= 0) return true;
  refuse(problem, Code::code_page_refused, change, static_cast<int>(-mapped),
         mapped == -EPERM    ? "its page is sealed (mseal), or a sandbox forbids to map code"
         : mapped == -EINVAL ? "its page is part of a huge page, which cannot be replaced in part"
                             : "the kernel refused to map a copy of its page over it");
  return false;
}

bool TextFlip::replace_all(std::span<const TextChange> changes, Problem &problem) {
  std::size_t replaced = 0;
  for (; replaced < runs_.size(); ++replaced) {
    const Run &run = runs_[replaced];
    note_origins(run);
    if (!replace(run, changes[run.first_change], problem)) break;
    keep_origins(run);
  }
  if (replaced == runs_.size()) return true;
  // Back to what was, from the other half of the copies: pages that could be mapped just now can be mapped again.
  for (std::size_t k = 0; k < replaced; ++k) {
    const std::size_t size = runs_[k].end - runs_[k].begin;
    sys::map(runs_[k].begin, size, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, runs_[k].copies, size);
  }
  return false;
}

// ---- back to the file

const MapLine *TextFlip::line_of(std::uintptr_t address) const {
  const MapLine *const found = std::upper_bound(
      map_.begin(), map_.end(), address, [](std::uintptr_t value, const MapLine &line) { return value < line.end; });
  return found != map_.end() && address >= found->begin ? found : nullptr;
}

TextFlip::Origin *TextFlip::origin_of(std::uintptr_t page) {
  Origin *const found =
      std::find_if(origins_.begin(), origins_.end(), [page](const Origin &one) { return one.page == page; });
  return found == origins_.end() ? nullptr : found;
}

/// Notes, before it is replaced, where each page comes from: from a file whose bytes it holds, or from there by way of a copy of ours.
void TextFlip::note_origins(const Run &run) {
  struct stat copy = {};
  noted_.clear();
  if (fstat(run.copies, &copy) != 0) return;
  for (std::uintptr_t page = run.begin; page < run.end; page += sys::page_size()) {
    const MapLine *const line = line_of(page);
    Origin origin;
    // Without memory for this note the page stays a copy, which is as good.
    if (line != nullptr && find_origin(page, *line, origin)) {
      origin.copy_inode = copy.st_ino;
      static_cast<void>(noted_.push_back(origin));
    }
  }
}

bool TextFlip::find_origin(std::uintptr_t page, const MapLine &line, Origin &origin) {
  const Origin *const known = origin_of(page);
  if (known != nullptr && known->copy_inode == line.inode) {
    origin = *known;
    return true;
  }
  struct stat status = {};
  const Fd file = open_named(line, status);
  origin = {page,
            line.offset + (page - line.begin),
            line.inode,
            line.device_major,
            line.device_minor,
            status.st_dev,
            status.st_ino,
            0};
  return file.is_open() && holds_memory(file.get(), origin.offset, page, sys::page_size());
}

/// The pages of the run were replaced: from now on what was noted of them holds, and nothing else (another object may have been
/// loaded there since they were changed last).
void TextFlip::keep_origins(const Run &run) {
  Origin *const kept = std::remove_if(origins_.begin(), origins_.end(), [&run](const Origin &one) {
    return one.page >= run.begin && one.page < run.end;
  });
  origins_.set_size(static_cast<std::size_t>(kept - origins_.begin()));
  for (const Origin &one : noted_) static_cast<void>(origins_.push_back(one));
}

void TextFlip::return_to_files(const Run &run) {
  for (std::uintptr_t page = run.begin; page < run.end; page += sys::page_size()) {
    Origin *const origin = origin_of(page);
    if (origin == nullptr) continue;
    // Another part of the file is mapped somewhere, and has its name.
    const MapLine *const named = std::find_if(map_.begin(), map_.end(), [origin](const MapLine &line) {
      return line.inode == origin->inode && line.device_major == origin->device_major &&
             line.device_minor == origin->device_minor;
    });
    if (named == map_.end()) continue;
    struct stat status = {};
    const Fd file = open_named(*named, status);
    if (!file.is_open() || status.st_dev != origin->file_device || status.st_ino != origin->file_inode ||
        !holds_memory(file.get(), origin->offset, page, sys::page_size()))
      continue;
    if (sys::map(page, sys::page_size(), PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, file.get(), origin->offset) <
        0)
      continue;
    *origin = origins_.back();
    origins_.set_size(origins_.size() - 1);
  }
}

}  // namespace shunt::core
