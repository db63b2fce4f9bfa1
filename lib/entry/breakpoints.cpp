#include "entry/breakpoints.hpp"

#include <linux/membarrier.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "arch/native_code.hpp"
#include "arch/native_context.hpp"
#include "base/syscalls.hpp"

namespace shunt::core {
namespace {

using arch::NativeCode;
using arch::NativeContext;

// ---- the table: read by handlers at any time, written by one thread. A larger one replaces a full one, which is kept, since a
// handler may be reading it: all of them together take less than twice the last.

struct Site {
  std::atomic<std::uintptr_t> address, to;
};
struct Table {
  std::size_t capacity;  // a power of two
  std::size_t used;
  Site sites[];

  /// Its place, or the free one where it would be.
  Site &at(std::uintptr_t address) {
    const std::uint64_t hash = address * 0x9e3779b97f4a7c15;
    for (std::size_t k = hash >> 32;; ++k) {
      Site &site = sites[k & (capacity - 1)];
      const std::uintptr_t found = site.address.load(std::memory_order_acquire);
      if (found == address || found == 0) return site;
    }
  }
};
std::atomic<Table *> the_table = nullptr;
std::atomic<std::uint64_t> hit_count = 0, lead_count = 0;

bool grow() {
  Table *const old = the_table.load();
  const std::size_t capacity = old == nullptr ? 128 : old->capacity * 2;
  auto *const table = static_cast<Table *>(sys::map_anonymous(sizeof(Table) + capacity * sizeof(Site), false));
  if (table == nullptr) return false;
  table->capacity = capacity;
  for (std::size_t k = 0; old != nullptr && k < old->capacity; ++k) {
    const std::uintptr_t address = old->sites[k].address.load();
    if (address == 0) continue;
    Site &site = table->at(address);
    site.to.store(old->sites[k].to.load());
    site.address.store(address);
    table->used += 1;
  }
  the_table.store(table, std::memory_order_release);
  return true;
}

// ---- the handlers before ours, the last ones. A late handler of ours may still read one that is older.

constexpr std::size_t kKept = 8;
struct sigaction kept[kKept];
std::atomic<std::size_t> kept_count = 0;

// Contexts with which a handler before ours is being called. It may call ours in turn, because it was installed over it; then the
// one before that is meant.
std::atomic<const void *> handed_on[16];

bool has_handler(const struct sigaction &action) {
  return (action.sa_flags & SA_SIGINFO) != 0 || (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN);
}

void end_by_default(int signal) {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  sigaction(signal, &action, nullptr);
  // Delivered when this handler returns at the latest.
  sys::call(SYS_tgkill, sys::call(SYS_getpid), sys::call(SYS_gettid), signal);
}

void call(const struct sigaction &action, int signal, siginfo_t *info, void *context) {
  // What the kernel would have blocked, instead of what it blocks for us; the context brings the thread's own mask back.
  sigset_t mask;
  sigorset(&mask, &static_cast<ucontext_t *>(context)->uc_sigmask, &action.sa_mask);
  if ((action.sa_flags & SA_NODEFER) == 0) sigaddset(&mask, signal);
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  if ((action.sa_flags & SA_SIGINFO) != 0)
    action.sa_sigaction(signal, info, context);
  else
    action.sa_handler(signal);
}

void hand_on(int signal, siginfo_t *info, void *context) {
  std::size_t depth = 0;
  for (const auto &one : handed_on) depth += one.load() == context ? 1 : 0;
  const std::size_t count = kept_count.load(std::memory_order_acquire);
  struct sigaction *const before = depth < std::min(count, kKept) ? &kept[(count - 1 - depth) % kKept] : nullptr;
  if (before == nullptr || !has_handler(*before)) {
    // Sent by somebody (code <= 0) it can be ignored; raised by an instruction it cannot.
    const bool ignores = before != nullptr && before->sa_handler == SIG_IGN && info->si_code <= 0;
    if (!ignores) end_by_default(signal);
    return;
  }
  std::atomic<const void *> *mark = nullptr;
  for (auto &one : handed_on) {
    const void *free = nullptr;
    if (mark == nullptr && one.compare_exchange_strong(free, context)) mark = &one;
  }
  const struct sigaction action = *before;
  if ((action.sa_flags & static_cast<int>(SA_RESETHAND)) != 0) {
    before->sa_flags = 0;
    before->sa_handler = SIG_DFL;
  }
  call(action, signal, info, context);
  if (mark != nullptr) mark->store(nullptr);
}

bool holds_trap(std::uintptr_t site) {
  const auto *const bytes = reinterpret_cast<const volatile std::uint8_t *>(site);
  for (std::size_t k = 0; k < sizeof NativeCode::kTrap; ++k)
    if (bytes[k] != NativeCode::kTrap[k]) return false;
  return true;
}

/// Where the thread goes on. A breakpoint that is not there any more was ours: what is there instead is run. One that is there, but
/// leads nowhere, is a stranger's, if that was so at one moment: lead() is called before our breakpoint comes and after it went.
bool is_ours(const Site &place, std::uintptr_t site, std::uintptr_t &to) {
  for (;;) {
    const std::uint64_t before = lead_count.load();
    to = place.to.load();
    if (to != 0) return true;
    to = site;
    if (!holds_trap(site)) return true;
    if (lead_count.load() == before) return false;
  }
}

/// Calls nothing, not even what errno is behind, before it knows that the trap is not ours: what it called might be the function
/// with the breakpoint.
void on_trap(int signal, siginfo_t *info, void *context) {
  auto &thread = *static_cast<ucontext_t *>(context);
  const std::uintptr_t site = NativeContext::pc(thread) - NativeContext::kBehindTrap;
  Table *const table = the_table.load(std::memory_order_acquire);
  const Site *const found = table == nullptr || info->si_code <= 0 ? nullptr : &table->at(site);
  if (found != nullptr && found->address.load(std::memory_order_acquire) == site) {
    std::uintptr_t to = 0;
    if (is_ours(*found, site, to)) {
      hit_count.fetch_add(1, std::memory_order_relaxed);
      NativeContext::set_pc(thread, to);
      return;
    }
  }
  const int saved_errno = errno;
  hand_on(signal, info, context);
  errno = saved_errno;
}

}  // namespace

bool Breakpoints::install() {
  struct sigaction present = {};
  if (sigaction(SIGTRAP, nullptr, &present) != 0) return false;
  if ((present.sa_flags & SA_SIGINFO) != 0 && present.sa_sigaction == on_trap) return true;
  kept[kept_count.load() % kKept] = present;
  kept_count.fetch_add(1, std::memory_order_release);
  struct sigaction ours = {};
  ours.sa_sigaction = on_trap;
  // Who is asked (threads/question.hpp) while it is in here would seem to return behind the breakpoint: it answers on its way out.
  sigfillset(&ours.sa_mask);
  for (const int fault : {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE}) sigdelset(&ours.sa_mask, fault);
  // SIGTRAP itself is never blocked while it runs: the handler before ours may call a function that has a breakpoint.
  ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART | SA_ONSTACK;
  if (has_handler(present)) ours.sa_flags = SA_SIGINFO | SA_NODEFER | (present.sa_flags & (SA_RESTART | SA_ONSTACK));
  return sigaction(SIGTRAP, &ours, nullptr) == 0;
}

bool Breakpoints::add(std::uintptr_t site) {
  Table *table = the_table.load();
  if (table == nullptr || table->used * 2 >= table->capacity) {
    if (!grow()) return false;
    table = the_table.load();
  }
  Site &place = table->at(site);
  if (place.address.load() == site) return true;
  place.address.store(site, std::memory_order_release);
  table->used += 1;
  return true;
}

void Breakpoints::lead(std::uintptr_t site, std::uintptr_t to) {
  Table *const table = the_table.load();
  lead_count.fetch_add(1);
  table->at(site).to.store(to);
  lead_count.fetch_add(1);
}

std::uint64_t Breakpoints::hits() { return hit_count.load(std::memory_order_relaxed); }

namespace {

void barrier(int command) { sys::call(SYS_membarrier, command, 0, 0); }

}  // namespace

void prepare_cores() { barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE); }

void synchronise_cores() { barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE); }

}  // namespace shunt::core
