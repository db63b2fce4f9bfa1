#include "threads/stacks.hpp"

#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/syscalls.hpp"
#include "memory/map_lines.hpp"

namespace shunt::core {
namespace {

constexpr std::uintptr_t kDeepest = std::uintptr_t{16} << 20;

}  // namespace

bool Stacks::read() {
  if (read_map_text(text_) != 0) return false;
  areas_.clear();
  std::string_view rest(text_.data(), text_.size());
  for (MapLine line; next_map_line(rest, line);) {
    if ((line.protection & (PROT_READ | PROT_WRITE)) != (PROT_READ | PROT_WRITE)) continue;
    if (!areas_.push_back({line.begin, line.end})) return false;
  }
  return true;
}

std::uintptr_t Stacks::end_of(std::uintptr_t sp) const {
  const Area *const found = std::upper_bound(areas_.begin(), areas_.end(), sp,
                                             [](std::uintptr_t value, const Area &area) { return value < area.end; });
  if (found == areas_.end() || sp < found->begin) return 0;
  return std::min(found->end, sp + kDeepest);
}

Scan scan_stack(const CodeRanges &ranges, std::uintptr_t sp, std::uintptr_t end, std::span<std::uintptr_t> buffer,
                std::uintptr_t &where) {
  constexpr std::uintptr_t kWord = sizeof(std::uintptr_t);
  for (std::uintptr_t at = (sp + kWord - 1) / kWord * kWord; at < end;) {
    const iovec to = {buffer.data(), std::min(buffer.size_bytes(), end - at)};
    const iovec from = {reinterpret_cast<void *>(at), to.iov_len};
    const long got = sys::call(SYS_process_vm_readv, sys::call(SYS_getpid), &to, 1, &from, 1, 0);
    // The end of the mapping has come nearer; what was there is nobody's stack any more.
    if (got <= 0) return at > sp + kWord ? Scan::clean : Scan::failed;
    const std::size_t words = static_cast<std::size_t>(got) / kWord;
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
