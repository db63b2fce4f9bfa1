// entry-pauses: how long calls take while a function's entry is redirected and reverted beside them, with 1, 8 and 64 calling threads:
//   unpatched      nobody changes anything
//   shunt          lib/entry, again and again
//   stop by signal every thread is stopped by a signal until all stand, as is usual elsewhere; nothing is changed meanwhile
// Every call is timed by its caller; p50, p99, p99.99 and the maximum of all of them are printed, in microseconds. Time makes it
// never fail, a wrong answer does. `entry-pauses ROUNDS` (200): so many changes or stops each.
#include <sched.h>
#include <sys/syscall.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#include "../unit/entry_code.hpp"
#include "arch/native_code.hpp"

namespace {

using namespace shunt::core;

/// Times in buckets that are 1/16 of a power of two wide.
class Histogram {
 public:
  void add(std::uint64_t ns) {
    const std::uint64_t value = ns + 16;
    const int power = 63 - __builtin_clzll(value);
    counts_[static_cast<std::size_t>(power) * 16 + (value >> (power - 4) & 15)] += 1;
    longest_ = std::max(longest_, ns);
  }
  void add(const Histogram &other) {
    for (std::size_t k = 0; k < kBuckets; ++k) counts_[k] += other.counts_[k];
    longest_ = std::max(longest_, other.longest_);
  }
  [[nodiscard]] double quantile_us(double part) const {
    std::uint64_t all = 0, seen = 0;
    for (const std::uint64_t count : counts_) all += count;
    for (std::size_t k = 0; k < kBuckets; ++k) {
      seen += counts_[k];
      if (static_cast<double>(seen) < static_cast<double>(all) * part) continue;
      const std::size_t power = k / 16;
      return (static_cast<double>((16 + k % 16 + 1) * (std::uint64_t{1} << (power - 4))) - 16) / 1000;
    }
    return 0;
  }
  [[nodiscard]] double longest_us() const { return static_cast<double>(longest_) / 1000; }

 private:
  static constexpr std::size_t kBuckets = 64 * 16;
  std::uint64_t counts_[kBuckets] = {};
  std::uint64_t longest_ = 0;
};

// ---- the usual way

std::atomic<int> stopped = 0;
std::atomic<bool> may_go = true;

void stop_handler(int) {
  const int saved = errno;
  ++stopped;
  while (!may_go) sched_yield();
  --stopped;
  errno = saved;
}

void stop_all(const std::vector<int> &ids) {
  may_go = false;
  for (const int id : ids) syscall(SYS_tgkill, getpid(), id, SIGUSR2);
  while (stopped < static_cast<int>(ids.size())) sched_yield();
  may_go = true;
  while (stopped > 0) sched_yield();
}

// ---- the measurement

struct Callers {
  explicit Callers(std::uintptr_t function, int count) : histograms(static_cast<std::size_t>(count)) {
    for (std::size_t k = 0; k < histograms.size(); ++k)
      threads.emplace_back([this, function, k] {
        ++started;
        while (!stop) {
          const std::uint64_t begin = now();
          const int answer = unit::call(function);
          histograms[k].add(now() - begin);
          if (answer != 1 && answer != 2) ++wrong;
        }
      });
    while (started < count) sched_yield();
    ThreadList list;
    if (list.read(~std::uint64_t{0}) != ThreadList::Outcome::complete) std::abort();
    for (const int id : list.ids())
      if (id != getpid()) ids.push_back(id);
  }
  Histogram finish() {
    stop = true;
    for (std::thread &thread : threads) thread.join();
    Histogram all;
    for (const Histogram &one : histograms) all.add(one);
    return all;
  }
  static std::uint64_t now() {
    timespec time = {};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(time.tv_nsec);
  }

  std::atomic<bool> stop = false;
  std::atomic<int> wrong = 0, started = 0;
  std::vector<int> ids;
  std::vector<Histogram> histograms;
  std::vector<std::thread> threads;
};

int measure(const char *name, std::uintptr_t function, int threads, int rounds,
            const std::function<void(const std::vector<int> &)> &round) {
  Callers callers(function, threads);
  const std::uint64_t begin = now_ns();
  for (int k = 0; k < rounds; ++k) round(callers.ids);
  const double each_us = static_cast<double>(now_ns() - begin) / 1000 / rounds;
  const Histogram all = callers.finish();
  std::printf("%7d  %-14s %9.2f %9.2f %9.2f %10.1f %14.1f\n", threads, name, all.quantile_us(0.5),
              all.quantile_us(0.99), all.quantile_us(0.9999), all.longest_us(), each_us);
  std::fflush(stdout);
  return callers.wrong;
}

}  // namespace

int main(int argc, char **argv) {
  if (!arch::NativeCode::ready()) {
    std::puts("libZydis.so.4.0 is not installed");
    return 77;
  }
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 200;
  struct sigaction action = {};
  action.sa_handler = stop_handler;
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR2, &action, nullptr);
  unit::CodePages pages(2);
  const std::uintptr_t function = pages.put(0x100, unit::framed(1)), replacement = pages.put(0x1100, unit::plain(2));
  Entries entries;
  unit::Redirected redirected(entries, unit::target_of(function, 15));
  int wrong = 0, refused = 0;
  std::printf("%7s  %-14s %9s %9s %9s %10s %14s\n", "threads", "", "p50 us", "p99", "p99.99", "max", "each round");
  for (const int threads : {1, 8, 64}) {
    wrong += measure("unpatched", function, threads, rounds, [](const auto &) {
      const timespec pause = {0, 1'000'000};
      nanosleep(&pause, nullptr);
    });
    wrong += measure("shunt", function, threads, rounds, [&](const auto &) {
      refused += redirected.lead(replacement) ? 0 : 1;
      refused += redirected.lead(0) ? 0 : 1;
    });
    wrong += measure("stop by signal", function, threads, rounds, [](const auto &ids) { stop_all(ids); });
  }
  std::printf("%d wrong answers, %d refusals\n", wrong, refused);
  return wrong == 0 ? 0 : 1;
}
