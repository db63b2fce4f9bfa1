#include "threads/stacks.hpp"

#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>

#include "arch/native_context.hpp"
#include "base/syscalls.hpp"
#include "memory/map_lines.hpp"

namespace shunt::core {
namespace {

constexpr std::uintptr_t kDeepest = std::uintptr_t{16} << 20;
constexpr std::uintptr_t kRecord = 4096;  // glibc's struct pthread has 2304 bytes, musl's fewer
constexpr std::uintptr_t kWord = sizeof(std::uintptr_t);

std::uintptr_t round_up(std::uintptr_t address) { return (address + kWord - 1) / kWord * kWord; }

/// The words at `at`, no more than fit into `buffer`; how many. Another thread may unmap them meanwhile: 0.
std::size_t read_words(std::uintptr_t at, std::uintptr_t end, std::span<std::uintptr_t> buffer) {
  const iovec to = {buffer.data(), std::min(buffer.size_bytes(), end - at)};
  const iovec from = {reinterpret_cast<void *>(at), to.iov_len};
  const long got = sys::call(SYS_process_vm_readv, sys::call(SYS_getpid), &to, 1, &from, 1, 0);
  return got <= 0 ? 0 : static_cast<std::size_t>(got) / kWord;
}

std::atomic<bool> has_first_thread = true;
bool is_forked_by_first = false;  // with the engine held

}  // namespace

StackOwner StackOwner::self() {
  const bool is_first = has_first_thread.load() && sys::call(SYS_gettid) == sys::call(SYS_getpid);
  return {arch::NativeContext::thread_pointer(), is_first};
}

void StackOwner::before_fork() { is_forked_by_first = self().is_first; }

void StackOwner::after_fork_in_child() { has_first_thread.store(is_forked_by_first); }

bool Stacks::read() {
  if (read_map_text(text_) != 0) return false;
  areas_.clear();
  std::string_view rest(text_.data(), text_.size());
  for (MapLine line; next_map_line(rest, line);) {
    if ((line.protection & (PROT_READ | PROT_WRITE)) != (PROT_READ | PROT_WRITE)) continue;
    if (!areas_.push_back({line.begin, line.end, line.name == "[stack]"})) return false;
  }
  return true;
}

const Stacks::Area *Stacks::area_at(std::uintptr_t address) const {
  const Area *const found = std::upper_bound(areas_.begin(), areas_.end(), address,
                                             [](std::uintptr_t value, const Area &area) { return value < area.end; });
  return found == areas_.end() || address < found->begin ? nullptr : found;
}

std::uintptr_t Stacks::end_of(std::uintptr_t sp) const {
  const Area *const area = area_at(sp);
  return area == nullptr ? 0 : std::min(area->end, sp + kDeepest);
}

std::uintptr_t Stacks::own_end(std::uintptr_t sp, const StackOwner &owner) const {
  const Area *area = area_at(sp);
  if (area == nullptr || (!owner.is_first && sp >= owner.thread_pointer)) return 0;
  const auto is_last = [&] { return owner.is_first ? area->is_first_stack : owner.thread_pointer < area->end; };
  // One stack may be several mappings, where something was advised about a part of it.
  while (!is_last() && area + 1 != areas_.end() && area[1].begin == area->end) ++area;
  if (!is_last()) return 0;
  return owner.is_first ? area->end : std::min(area->end, owner.thread_pointer + kRecord);
}

std::uintptr_t Stacks::lowest_own(std::uintptr_t begin, std::uintptr_t end, const StackOwner &owner,
                                  std::span<std::uintptr_t> buffer) const {
  std::uintptr_t lowest = 0;
  for (std::uintptr_t at = round_up(begin); at < end;) {
    const std::size_t words = read_words(at, end, buffer);
    if (words == 0) return 0;
    for (const std::uintptr_t word : buffer.first(words))
      if ((lowest == 0 || word < lowest) && (word < begin || word >= end) && own_end(word, owner) != 0) lowest = word;
    at += words * kWord;
  }
  return lowest;
}

Scan scan_stack(const CodeRanges &ranges, std::uintptr_t sp, std::uintptr_t end, std::span<std::uintptr_t> buffer,
                std::uintptr_t &where) {
  for (std::uintptr_t at = round_up(sp); at < end;) {
    const std::size_t words = read_words(at, end, buffer);
    // The end of the mapping has come nearer; what was there is nobody's stack any more. A thread's own stack goes to its end.
    if (words == 0) return at > sp + kWord && !ranges.counts_every_word() ? Scan::clean : Scan::failed;
    for (std::size_t k = 0; k < words; ++k) {
      const std::uintptr_t behind[2] = {k + 1 < words ? buffer[k + 1] : 0, k + 2 < words ? buffer[k + 2] : 0};
      if (!ranges.will_return(buffer[k], behind)) continue;
      where = buffer[k];
      return Scan::found;
    }
    // The last two are read again, with what is behind them.
    at += (words > 2 ? words - 2 : 2) * kWord;
  }
  return Scan::clean;
}

}  // namespace shunt::core
