// Everything at once, for a minute: threads call, load and unload plugins, fork, start threads, allocate and throw, while patches and
// redirects are applied, stacked and reverted in any order, and patches are unloaded. A model knows what each call may answer. In the end
// all is as it was: slots, code, protections; descriptors, mappings and memory have not grown.
//
// With faults: one of the next system calls or allocations of a transaction fails. Then the transaction has failed, with an error, and slots,
// code and protections are what they were, by checksum; or it did without.
//
// What is random follows from a seed, which is printed; SHUNT_SEED=<seed> repeats the decisions (the threads run as they will).
// SHUNT_SOAK_SECONDS=<seconds> says how long.
//
// Shown to fail (each guard taken out, the test seen to fail, the guard put back):
//   late_objects.cpp, drop_gone(): only slots of objects that came later are dropped (a plugin where another was is not redirected)
//   list_lock.cpp: not found (a child that asks shunt hangs)
//   engine.cpp, commit_prepared(): settle() may throw; late_objects.cpp: an object that there was no memory for is not tried again;
//   registry.cpp, look_at(): may throw; shunt.hpp, Error(NULL): takes memory (with faults: what was refused has changed something)
#include <dirent.h>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <shunt/shunt.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "calls.hpp"
#include "faults.hpp"

extern "C" const soak_calls soak_now, soak_noplt;

namespace {

constexpr std::array<const char *, kFunctions> kNames = {"soak_0", "soak_1", "soak_2", "soak_3", "soak_4", "soak_5"};
constexpr std::array<unsigned, 6> kPatches = {0, 0x3f, 0x2d, 0x12, 0x0b, 0x30};  // functions by version: meson.build
constexpr int kOwnVersion = 40;  // of the redirects to functions of this program

thread_local const char *where = "";  // who calls, for a message

// ---- the model -----------------------------------------------------------------------------------------------------------

/// What stands over each function, oldest first.
struct State {
  static constexpr std::size_t kDeepest = 8;
  std::array<std::array<std::uint8_t, kDeepest>, kFunctions> versions = {};
  std::array<std::uint8_t, kFunctions> depth = {};

  void push(int function, int version) { versions[function][depth[function]++] = static_cast<std::uint8_t>(version); }
  void remove(int function, int version) {
    auto *const end = versions[function].begin() + depth[function];
    depth[function] =
        static_cast<std::uint8_t>(std::remove(versions[function].begin(), end, version) - versions[function].begin());
  }
  [[nodiscard]] int top(int function) const {
    return depth[function] > 0 ? versions[function][depth[function] - 1] : 0;
  }
  [[nodiscard]] int answer(int function) const {
    if (function != kChained) return top(function) * 100 + function;
    int sum = 0;
    for (int k = depth[function]; k-- > 0;) {
      sum += versions[function][k];
      if (versions[function][k] >= kOwnVersion) break;  // it does not call its original
    }
    return sum * 100 + function;
  }
};

/// Every state, by its number. One thread writes.
class History {
 public:
  History() : states_(std::make_unique<State[]>(kMost)) { std::fill_n(states_.get(), kMost, State()); }

  /// The state becomes another one from now on, and has become it from `finish()` on.
  void begin(const State &state) {
    states_[last_ + 1] = state;
    begun_.store(++last_);
  }
  void finish() { finished_.store(last_); }
  [[nodiscard]] const State &now() const { return states_[last_]; }
  [[nodiscard]] bool is_full() const { return last_ + 4 >= kMost; }

  [[nodiscard]] std::size_t finished() const { return finished_.load(); }
  /// "" when a call that began when state number `from` was finished, and is over, may have answered so.
  [[nodiscard]] std::string why_wrong(int function, int answer, std::size_t from) const {
    const std::size_t to = begun_.load();
    unsigned sums = 0;
    for (std::size_t k = from; k <= to; ++k) {
      if (states_[k].answer(function) == answer) return "";
      for (int n = 0; n < states_[k].depth[kChained]; ++n) sums |= 1U << (states_[k].versions[kChained][n] % 32);
    }
    // A chain that was changed while it was run through.
    if (function == kChained && from != to && is_sum(answer, sums)) return "";
    std::ostringstream text;
    text << where << ": " << kNames[function] << " answered " << answer << "; between states " << from << " and " << to
         << " it may answer";
    for (std::size_t k = from; k <= to && k < from + 8; ++k) text << ' ' << states_[k].answer(function);
    return text.str();
  }

 private:
  static constexpr std::size_t kMost = 1 << 17;

  static bool is_sum(int answer, unsigned versions) {
    if (answer % 100 != kChained) return false;
    const int wanted = answer / 100;
    for (unsigned some = versions;; some = (some - 1) & versions) {
      int sum = 0;
      for (int k = 0; k < 32; ++k)
        if ((some >> k & 1) != 0) sum += k < 8 ? k : kOwnVersion + (k - kOwnVersion % 32);
      if (sum == wanted) return true;
      if (some == 0) return false;
    }
  }

  std::unique_ptr<State[]> states_;
  std::size_t last_ = 0;
  std::atomic<std::size_t> begun_ = 0, finished_ = 0;
};

// ---- what is compared ----------------------------------------------------------------------------------------------------

/// The protection and a checksum of the bytes of each page of the libraries that stay.
using Pages = std::map<std::uintptr_t, std::string>;

Pages pages_that_stay() {
  Pages all;
  struct Range {
    std::uintptr_t low, high;
    std::string name;
  };
  std::vector<Range> ranges;
  dl_iterate_phdr(
      [](dl_phdr_info *info, std::size_t, void *to) {
        const std::string name = info->dlpi_name;
        if (name.find("libsoak_") == std::string::npos) return 0;
        Range range = {UINTPTR_MAX, 0, name.substr(name.rfind('/') + 1)};
        for (int k = 0; k < info->dlpi_phnum; ++k) {
          const ElfW(Phdr) &header = info->dlpi_phdr[k];
          if (header.p_type != PT_LOAD) continue;
          range.low = std::min<std::uintptr_t>(range.low, info->dlpi_addr + header.p_vaddr);
          range.high = std::max<std::uintptr_t>(range.high, info->dlpi_addr + header.p_vaddr + header.p_memsz);
        }
        static_cast<std::vector<Range> *>(to)->push_back(range);
        return 0;
      },
      &ranges);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0, end = 0;
    char protection[5] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, protection) != 3) continue;
    for (const Range &range : ranges) {
      for (std::uintptr_t page = std::max(begin, range.low & ~0xfffUL); page < std::min(end, range.high);
           page += 4096) {
        std::uint64_t sum = 0xcbf29ce484222325;
        for (std::uintptr_t word = page; protection[0] == 'r' && word < page + 4096; word += 8)
          sum = (sum ^ *reinterpret_cast<const std::uint64_t *>(word)) * 0x100000001b3;
        std::ostringstream text;
        text << range.name << '+' << std::hex << page - range.low << ' ' << protection << ' ' << sum;
        all[page] = text.str();
      }
    }
  }
  return all;
}

/// "" when the pages are what they were.
std::string difference(const Pages &before) {
  const Pages now = pages_that_stay();
  std::string text;
  for (const auto &[page, what] : before)
    if (const auto found = now.find(page); found == now.end() || found->second != what)
      text += what + " is " + (found == now.end() ? "gone" : found->second) + '\n';
  return text;
}

long count_descriptors() {
  long count = 0;
  DIR *const folder = opendir("/proc/self/fd");
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

long anonymous_kilobytes() {
  std::ifstream file("/proc/self/smaps_rollup");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("Anonymous:")) return std::strtol(line.c_str() + 10, nullptr, 10);
  return 0;
}

/// Of patches.
long count_patch_mappings() {
  long count = 0;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) count += line.find("soak_patch") != std::string::npos ? 1 : 0;
  return count;
}

// ---- replacements of this program ------------------------------------------------------------------------------------------

template <int Version>
struct Own {
  template <int Function>
  static int function(int x) {
    if (Function == kThrower && x < 0) throw Version * 100 + Function;
    return Version * 100 + Function;
  }
  static constexpr std::array<int (*)(int), kFunctions> all = {&function<0>, &function<1>, &function<2>,
                                                               &function<3>, &function<4>, &function<5>};
};

// ---- everything ------------------------------------------------------------------------------------------------------------

class Soak : public testing::Test {
 protected:
  void SetUp() override {
    const char *const given = std::getenv("SHUNT_SEED");
    seed_ = given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 0)) : std::random_device()();
    std::printf("SHUNT_SEED=%u\n", seed_);
    random_.seed(seed_);
    const char *const seconds = std::getenv("SHUNT_SOAK_SECONDS");
    if (seconds != nullptr) seconds_ = std::atoi(seconds);
    folder_ = std::getenv("SOAK_FOLDER") != nullptr ? std::getenv("SOAK_FOLDER") : ".";
  }

  void run(bool with_faults) {
    with_faults_ = with_faults;
    if (with_faults && std::getenv("SHUNT_SOAK_SECONDS") == nullptr) seconds_ /= 2;
    ASSERT_TRUE(shunt::watch_loads());
    if (with_faults) faults::install();
    const Pages before = pages_that_stay();
    const long descriptors_before = count_descriptors();
    start();
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds_);
    const auto settled = end - std::chrono::seconds(seconds_) * 2 / 3;
    long descriptors = 0, kilobytes = 0;
    for (long n = 0; std::chrono::steady_clock::now() < end && !history_.is_full() && !HasFailure(); ++n) {
      change_something();
      if (descriptors != 0 || std::chrono::steady_clock::now() < settled) continue;
      descriptors = count_descriptors();
      kilobytes = anonymous_kilobytes();
    }
    while (!standing_.empty() && !HasFailure()) revert(0);
    stop();
    std::printf("%lu calls, %lu loads, %lu forks, %lu threads, %lu throws; %lu changes, %lu refused for a thread\n",
                calls_.load(), loads_.load(), forks_.load(), threads_started_.load(), throws_.load(), changes_,
                refused_);
    for (const auto &[what, count] : faults_) std::printf("%lu times %s failed\n", count, what.c_str());
    EXPECT_EQ(violations_.load(), 0U) << a_violation_;
    EXPECT_EQ(difference(before), "");
    // Nobody is in the way any more: what drains is unloaded, now and then, when shunt is asked.
    for (int n = 0; n < 500 && count_patch_mappings() > 0; ++n) apply_and_revert();
    std::printf("descriptors %ld, then %ld; anonymous KiB %ld, then %ld\n", descriptors, count_descriptors(), kilobytes,
                anonymous_kilobytes());
    std::printf("%ld mappings of patches are left\n", count_patch_mappings());
    EXPECT_LE(count_patch_mappings(), 50);  // of those that a stale word on a stack kept
    EXPECT_EQ(count_descriptors(), descriptors_before);
    EXPECT_LT(anonymous_kilobytes(), kilobytes + 6 * 1024);
  }

 private:
  // ---- threads

  void start() {
    const auto add = [this](auto body) { threads_.emplace_back(body); };
    for (int k = 0; k < 7; ++k)
      add([this, k] {
        while (!stop_)
          call_all([k](int function, int x) {
            return k % 3 == 0   ? soak_now.call(function, x)
                   : k % 3 == 1 ? soak_noplt.call(function, x)
                                : soak_call(function, x);
          });
      });
    for (int k = 0; k < 3; ++k)
      add([this, k] {
        where = "a plugin";
        while (!stop_) load_plugin(k);
      });
    for (int k = 0; k < 2; ++k)
      add([this] {
        while (!stop_) {
          std::thread([this] { call_all(&soak_call); }).join();
          ++threads_started_;
        }
      });
    for (int k = 0; k < 2; ++k)
      add([this, k] {
        std::mt19937 random(seed_ + static_cast<unsigned>(k));
        while (!stop_) allocate_and_throw(random);
      });
    add([this] {
      while (!stop_) fork_and_call();
    });
  }
  void stop() {
    stop_ = true;
    for (std::thread &thread : threads_) thread.join();
    threads_.clear();
  }

  template <class Call>
  void call_one(int function, int x, Call call) {
    const std::size_t from = history_.finished();
    int answer = 0;
    try {
      answer = call(function, x);
    } catch (int thrown) {
      answer = thrown;
      ++throws_;
    }
    check(function, answer, from);
    ++calls_;
  }
  template <class Call>
  void call_all(Call call) {
    for (int function = 0; function < kFunctions; ++function)
      call_one(function, function == kThrower && calls_ % 8 == 0 ? -1 : 1, call);
    call_one(1, 1, [](int, int x) { return soak_call_1(x); });
    sched_yield();
  }
  void check(int function, int answer, std::size_t from) {
    const std::string wrong = history_.why_wrong(function, answer, from);
    if (wrong.empty()) return;
    if (++violations_ > 1) return;
    const std::lock_guard lock(mutex_);
    a_violation_ = wrong;
  }

  void load_plugin(int k) {
    const std::size_t from = history_.finished();
    const int flags[] = {RTLD_LAZY, RTLD_NOW | RTLD_DEEPBIND, RTLD_NOW};
    void *const plugin = dlopen((folder_ + "/soak_plugin_" + std::to_string(k) + ".so").c_str(), flags[k] | RTLD_LOCAL);
    const auto *const calls =
        plugin != nullptr ? static_cast<const soak_calls *>(dlsym(plugin, "plugin_calls")) : nullptr;
    if (calls == nullptr) {
      const std::lock_guard lock(mutex_);
      if (++violations_ == 1) a_violation_ = dlerror();
      return;
    }
    where = "a plugin's constructor";
    for (int function = 0; function < kFunctions; ++function)
      if (const int answer = calls->call(function, 0); answer != -1) check(function, answer, from);
    where = "a plugin";
    for (int n = 0; n < 10; ++n) call_all(calls->call);
    dlclose(plugin);
    ++loads_;
  }

  void allocate_and_throw(std::mt19937 &random) {
    std::vector<std::unique_ptr<char[]>> all;
    for (int k = 0; k < 20; ++k) all.push_back(std::make_unique<char[]>(random() % 20000 + 1));
    try {
      if (random() % 2 == 0) throw std::runtime_error(std::string(random() % 100, 'x'));
    } catch (const std::exception &) {
      ++throws_;
    }
    call_all(soak_now.call);
  }

  void fork_and_call() {
    static const char *const nothing[] = {"true", nullptr};
    pid_t child = 0;
    if (++forks_ % 4 == 0 && !with_faults_) {  // the filter would end another program
      if (posix_spawn(&child, "/bin/true", nullptr, nullptr, const_cast<char *const *>(nothing), environ) != 0) return;
    } else {
      const std::size_t before = violations_;
      child = fork();
      if (child == 0) {
        alarm(60);
        where = "a child";
        in_child();
        _exit(violations_ == before ? 0 : 3);
      }
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (status == 0) return;
    const std::lock_guard lock(mutex_);
    if (++violations_ == 1) a_violation_ = "a child ended with status " + std::to_string(status);
  }
  /// It has the redirects of its parent, and can make some of its own.
  void in_child() {
    call_all(&soak_call);
    call_all(soak_noplt.call);
    const int before = soak_call(0, 1);
    auto change = shunt::redirect("soak_0", Own<kOwnVersion + 9>::all[0]);
    if (!change || soak_call(0, 1) != (kOwnVersion + 9) * 100) ++violations_;
    if (change && !change->revert()) ++violations_;
    if (soak_call(0, 1) != before) ++violations_;
  }

  // ---- changes

  struct Standing {
    int version = 0;
    unsigned functions = 0;
    std::optional<shunt::Patch> patch;
    std::optional<shunt::Change> change;
  };

  unsigned pick(unsigned count) { return std::uniform_int_distribution<unsigned>(0, count - 1)(random_); }
  [[nodiscard]] bool stands(int version) const {
    return std::any_of(standing_.begin(), standing_.end(), [&](const Standing &one) { return one.version == version; });
  }

  void change_something() {
    ++changes_;
    const unsigned what = pick(10);
    if (what < 4 && !standing_.empty()) return revert(pick(static_cast<unsigned>(standing_.size())));
    const int version = what < 8 ? 1 + static_cast<int>(pick(5)) : kOwnVersion + static_cast<int>(pick(2));
    if (stands(version)) return revert(pick(static_cast<unsigned>(standing_.size())));
    if (version >= kOwnVersion) return redirect(version);
    apply(version);
  }

  template <class Do>
  bool attempt(const State &next, Do change) {
    const State before = history_.now();
    const Pages pages = with_faults_ ? pages_that_stay() : Pages();
    history_.begin(next);
    std::string failed;  // the error's name
    shunt::Code code{};
    if (with_faults_) faults::arm(1 + pick(pick(2) == 0 ? 12 : 200));
    try {
      if (const std::optional<shunt::Error> error = change()) {
        faults::pause();
        code = error->code();
        failed = std::string(error->name()) + ": " + error->message();
      }
    } catch (const std::bad_alloc &) {  // of shunt.hpp, for what it hands over
      faults::pause();
      failed = "std::bad_alloc";
    }
    const std::string fault = with_faults_ ? faults::disarm() : "";
    if (!fault.empty()) ++faults_[fault];
    if (!failed.empty()) {
      history_.begin(before);
      if (fault.empty()) {
        ++refused_;
        EXPECT_EQ(code, shunt::Code::thread_in_the_way) << failed;
      } else {
        ++faults_[fault + ", and the change was refused (" + failed.substr(0, failed.find(':')) + "):"];
        EXPECT_EQ(difference(pages), "") << "changed by what was refused: " << failed;
      }
    }
    history_.finish();
    return failed.empty();
  }
  State with(int version, unsigned functions) const {
    State next = history_.now();
    for (int k = 0; k < kFunctions; ++k)
      if ((functions >> k & 1) != 0) next.push(k, version);
    return next;
  }

  void apply(int version) {
    Standing one = {version, kPatches[static_cast<std::size_t>(version)], {}, {}};
    const std::string path = folder_ + "/soak_patch_" + std::to_string(version) + ".so";
    const bool is_done = attempt(with(version, one.functions), [&]() -> std::optional<shunt::Error> {
      auto patch = shunt::Patch::load(path.c_str());
      if (!patch) return patch.error();
      if (auto applied = patch->apply(); !applied) return applied.error();
      one.patch = std::move(*patch);
      return {};
    });
    if (is_done) standing_.push_back(std::move(one));
  }

  void apply_and_revert() {
    auto patch = shunt::Patch::load((folder_ + "/soak_patch_4.so").c_str());
    if (!patch || !patch->apply() || !patch->revert()) ADD_FAILURE() << "cannot be applied any more";
  }

  void redirect(int version) {
    Standing one = {version, 1 + pick((1U << kFunctions) - 1), {}, {}};
    const auto &own = version == kOwnVersion ? Own<kOwnVersion>::all : Own<kOwnVersion + 1>::all;
    const bool is_done = attempt(with(version, one.functions), [&]() -> std::optional<shunt::Error> {
      auto transaction = shunt::Transaction::create();
      if (!transaction) return transaction.error();
      for (std::size_t k = 0; k < kFunctions; ++k) {
        if ((one.functions >> k & 1) == 0) continue;
        if (auto added = transaction->add(kNames[k], own[k]); !added) return added.error();
      }
      auto change = transaction->apply();
      if (!change) return change.error();
      one.change = std::move(*change);
      return {};
    });
    if (is_done) standing_.push_back(std::move(one));
  }

  void revert(std::size_t k) {
    Standing &one = standing_[k];
    State next = history_.now();
    for (int function = 0; function < kFunctions; ++function) next.remove(function, one.version);
    const bool is_done = attempt(next, [&]() -> std::optional<shunt::Error> {
      auto done = one.patch ? one.patch->revert() : one.change->revert();
      if (!done) return done.error();
      return {};
    });
    if (is_done) standing_.erase(standing_.begin() + static_cast<std::ptrdiff_t>(k));
  }

  unsigned seed_ = 0;
  int seconds_ = 60;
  bool with_faults_ = false;
  std::string folder_;
  std::mt19937 random_;
  History history_;
  std::vector<Standing> standing_;
  std::vector<std::thread> threads_;
  std::atomic<bool> stop_ = false;
  std::atomic<unsigned long> calls_ = 0, loads_ = 0, forks_ = 0, threads_started_ = 0, throws_ = 0, violations_ = 0;
  unsigned long changes_ = 0, refused_ = 0;
  std::map<std::string, unsigned long> faults_;
  std::mutex mutex_;
  std::string a_violation_;
};

TEST_F(Soak, EverythingAtOnce) { run(false); }

TEST_F(Soak, EverythingWithFaults) {
  if (!faults::can_install())
    GTEST_SKIP() << "this kernel or sandbox hands no system call to its own process (seccomp)";
  run(true);
}

}  // namespace
