// watch-cost: what it costs to load and unload a small library while redirects stand, since shunt looks at it then: dlopen() and dlclose()
// of it before anything is watched, and then with no, 1, 100 and 1,000 redirects, in turn. Once for a library that imports nothing of what is
// redirected, and once for one that has a slot to be written. Prints the median and the best of all rounds, in microseconds, and
// the ratio to those without. Time makes it never fail; a redirect that does not reach the library does.
//
//   watch-cost DIRECTORY [ROUNDS]     of the objects; 50 rounds take some seconds
#include <dlfcn.h>
#include <shunt/shunt.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

namespace {

constexpr int kLoads = 20;  // timed together
constexpr int kStanding[] = {0, 1, 100, 1000};

int replacement() { return 2; }

[[noreturn]] void fail(const char *what) {
  std::fprintf(stderr, "watch-cost: %s\n", what);
  std::exit(1);
}

double microseconds_of_a_load(const std::string &library) {
  const auto begin = std::chrono::steady_clock::now();
  for (int k = 0; k < kLoads; ++k) {
    void *const handle = dlopen(library.c_str(), RTLD_NOW);
    if (handle == nullptr) fail(dlerror());
    dlclose(handle);
  }
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count() / kLoads;
}

shunt::Change redirect(int count) {
  auto transaction = shunt::Transaction::create();
  if (!transaction) fail(transaction.error().message());
  for (int k = 0; k < count; ++k) {
    char name[16];
    std::snprintf(name, sizeof name, "w%03d", k);
    if (!transaction->add(name, &replacement, {.reach = shunt::Reach::slots})) fail(name);
  }
  auto change = transaction->apply();
  if (!change) fail(change.error().message());
  return std::move(*change);
}

void see_that_it_is_reached(const shunt::Change &change, const std::string &library) {
  const std::size_t slots = change.slots();
  void *const handle = dlopen(library.c_str(), RTLD_NOW);
  if (change.slots() != slots + 1) fail("the library's slot was not redirected");
  dlclose(handle);
}

struct Times {
  std::string library;
  std::vector<double> unwatched, watched[std::size(kStanding)];
};

void print(const char *label, std::vector<double> &times, const std::vector<double> &without) {
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2], best = times.front();
  std::printf("%-12s%10.1f%10.1f%10.3f%10.3f\n", label, median, best, median / without[without.size() / 2],
              best / without.front());
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 2) fail("usage: watch-cost DIRECTORY [ROUNDS]");
  const std::string folder = argv[1];
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 50;
  for (const char *name : {"/watch_provider.so", "/watch_caller.so"})
    if (dlopen((folder + name).c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) fail(dlerror());
  Times all[] = {{folder + "/watch_small.so", {}, {}}, {folder + "/watch_concerned.so", {}, {}}};
  const std::string concerned = all[1].library;
  for (int round = 0; round < rounds; ++round)
    for (Times &one : all) one.unwatched.push_back(microseconds_of_a_load(one.library));
  if (const auto watched = shunt::watch_loads(); !watched) fail(watched.error().message());
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t k = 0; k < std::size(kStanding); ++k) {
      std::optional<shunt::Change> change;
      if (kStanding[k] > 0) {
        change = redirect(kStanding[k]);
        see_that_it_is_reached(*change, concerned);
      }
      for (Times &one : all) one.watched[k].push_back(microseconds_of_a_load(one.library));
    }
  }
  for (Times &one : all) {
    std::printf("dlopen and dlclose of a small library that %s, us\n%-12s%10s%10s%10s%10s\n",
                one.library == concerned ? "has a slot to be redirected" : "is not concerned", "redirects", "median",
                "best", "ratio", "of best");
    print("no watch", one.unwatched, one.unwatched);
    for (std::size_t k = 0; k < std::size(kStanding); ++k)
      print(std::to_string(kStanding[k]).c_str(), one.watched[k], one.unwatched);
  }
}
