#include "threads/standing.hpp"

#include <algorithm>
#include <cstdio>
#include <iterator>

#include "base/digits.hpp"
#include "threads/small_file.hpp"

namespace shunt::core {
namespace {

using Path = char[64];

void make_path(Path &path, int thread, const char *file) {
  std::snprintf(path, sizeof path, "/proc/self/task/%d/%s", thread, file);
}

/// The number behind `name` in lines like "SigBlk:\t0000000000000000".
bool number_behind(std::string_view text, std::string_view name, unsigned base, std::uint64_t &value) {
  const std::size_t at = text.find(name);
  if (at == std::string_view::npos) return false;
  std::string_view rest = text.substr(at + name.size());
  while (!rest.empty() && (rest.front() == ' ' || rest.front() == '\t')) rest.remove_prefix(1);
  return take_digits(rest, base, value);
}

std::string_view read_status(int thread, std::span<char> buffer) {
  Path path;
  make_path(path, thread, "status");
  return read_small_file(path, buffer);
}

/// "nr a b c d e f sp pc", "-1 sp pc" or "running": proc(5).
void parse(std::string_view text, Standing &standing) {
  if (text.starts_with("running")) {
    standing.doing = Standing::Doing::running;
    return;
  }
  constexpr std::size_t kArguments = std::size(SystemCall{}.arguments);
  std::uint64_t number = 0, fields[kArguments + 2] = {};
  const bool is_call = !text.starts_with('-');
  if (!is_call) text.remove_prefix(1);
  if (!take_digits(text, 10, number)) return;
  std::size_t count = 0;
  for (; text.starts_with(" 0x") && count < std::size(fields); ++count) {
    text.remove_prefix(3);
    if (!take_digits(text, 16, fields[count])) return;
  }
  if (count != (is_call ? kArguments + 2 : 2)) return;
  standing.doing = Standing::Doing::asleep;
  standing.sp = fields[count - 2];
  standing.pc = fields[count - 1];
  if (!is_call) return;
  standing.call.number = static_cast<long>(number);
  std::copy_n(fields, kArguments, standing.call.arguments);
  // Who sleeps in one of these waits for the child to let go of its memory.
  if (number == SYS_clone || number == SYS_clone3
#ifdef SYS_vfork
      || number == SYS_vfork
#endif
  )
    standing.doing = Standing::Doing::forking;
}

}  // namespace

Standing standing_of(int thread) {
  Standing standing;
  char buffer[4096];
  const std::string_view status = read_status(thread, buffer);
  if (status.empty()) {
    if (errno == ENOENT || errno == ESRCH) standing.doing = Standing::Doing::gone;
    return standing;
  }
  std::uint64_t voluntary = 0, forced = 0;
  if (!number_behind(status, "\nvoluntary_ctxt_switches:", 10, voluntary) ||
      !number_behind(status, "\nnonvoluntary_ctxt_switches:", 10, forced))
    return standing;
  standing.switches = voluntary + forced;
  number_behind(status, "\nSigBlk:", 16, standing.blocked);
  Path path;
  make_path(path, thread, "syscall");
  const std::string_view text = read_small_file(path, buffer);
  if (text.empty() && errno == ESRCH) standing.doing = Standing::Doing::gone;
  if (!text.empty()) parse(text, standing);
  return standing;
}

std::uint64_t start_of(int thread) {
  constexpr int kStarted = 22;
  Path path;
  make_path(path, thread, "stat");
  return stat_field(path, kStarted);
}

bool blocked_signals(int thread, std::uint64_t &mask) {
  char buffer[4096];
  return number_behind(read_status(thread, buffer), "\nSigBlk:", 16, mask);
}

}  // namespace shunt::core
