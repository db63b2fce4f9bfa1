// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// process.cpp: one process that is measured.
//
//   bench-process DIRECTORY TASK COUNT
//
// It loads the generated objects of DIRECTORY and redirects their COUNT most popular functions. Whatever is said to be cold
// is the first thing that this process does after loading, so there is one cold sample of one kind in each process. TASK:
//
//   apply   shunt, cold and warm, and beside it in turn whatever it is compared with when warm; leaves the list of the
//           spans in DIRECTORY, for the next two
//   floor   the bare floor, cold
//   thin    the floor that reads relocation entries alone, cold
//   trace   shunt, cold and warm, between marks that `counts` finds in the list of system calls
//
// Prints a line `name value` for each result, times in nanoseconds.
#include "baselines.hpp"
#include "objects.hpp"
#include "plugins.hpp"

#include <shunt/shunt.h>

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

namespace bench {
namespace {

constexpr int kRounds = 9;  // of what is warm; the median of them counts

template <class Work>
double nanoseconds(Work work) {
  auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::vector<double> samples) {
  auto middle = samples.begin() + std::ssize(samples) / 2;
  std::ranges::nth_element(samples, middle);
  return *middle;
}

void print(const char *name, double value) { std::printf("%s %.0f\n", name, value); }

void expect(bool holds, const char *what) {
  if (holds) return;
  std::fprintf(stderr, "bench: %s\n", what);
  std::exit(1);
}

// By reference: `error` is written while `code` is computed.
void expect_ok(shunt_code code, shunt_error *const &error) { expect(code == SHUNT_OK, shunt_error_message(error)); }

// ---- shunt ---------------------------------------------------------------------------------------------------------

// From an empty hand to redirected calls: a server does all of this when a fix arrives.
shunt_change *apply(const std::vector<Target> &targets) {
  shunt_transaction *transaction;
  shunt_error *error;
  shunt_change *change;
  expect_ok(shunt_transaction_new(&transaction, &error), error);
  shunt_options options = SHUNT_OPTIONS_INIT;
  options.reach = SHUNT_REACH_SLOTS;  // as all that this is measured beside
  for (const Target &target : targets)
    expect_ok(shunt_transaction_add(transaction, target.symbol.c_str(), target.replacement, &options, &error), error);
  expect_ok(shunt_transaction_apply(transaction, &change, &error), error);
  shunt_transaction_free(transaction);
  return change;
}

void undo(shunt_change *change) {
  shunt_error *error;
  expect_ok(shunt_change_revert(change, &error), error);
}

struct Times {
  double apply, undo;
};

Times apply_and_undo(const std::vector<Target> &targets) {
  shunt_change *change;
  Times times{};
  times.apply = nanoseconds([&] { change = apply(targets); });
  times.undo = nanoseconds([&] { undo(change); });
  shunt_change_free(change);
  return times;
}

void verify(const Plugins &plugins, const std::vector<Target> &targets, std::size_t slots) {
  shunt_change *change = apply(targets);
  expect(shunt_change_slots(change) == slots, "shunt wrote another number of slots than there are");
  plugins.verify(targets);
  undo(change);
  expect(shunt_change_conflicts(change) == 0, "shunt left slots alone that nobody else had written");
  plugins.verify({});
  shunt_change_free(change);
}

// ---- the list of spans, kept for other processes -------------------------------------------------------------------
// The same program loads the same files in the same order, so that places and distances are the same in all of them.

std::string spans_file(const std::string &directory, std::size_t count) {
  return directory + "/spans-" + std::to_string(count);
}

void keep_spans(const std::string &path, const std::vector<Span> &spans, const std::vector<Object> &objects) {
  std::ofstream file(path);
  for (const Span &span : spans)
    file << span.object << ' ' << span.begin - objects[span.object].base << ' ' << span.size << ' ' << span.slots
         << '\n';
}

std::vector<Span> kept_spans(const std::string &path) {
  std::ifstream file(path);
  std::vector<Span> spans;
  for (Span span; file >> span.object >> span.begin >> span.size >> span.slots;) spans.push_back(span);
  expect(!spans.empty(), "no list of spans: run the task `apply` first");
  return spans;
}

std::size_t slots_in(const std::vector<Span> &spans) {
  std::size_t slots = 0;
  for (const Span &span : spans) slots += span.slots;
  return slots;
}

// ---- tasks ---------------------------------------------------------------------------------------------------------

void measure_apply(const std::string &directory, const Plugins &plugins, std::size_t count) {
  const auto targets = plugins.targets(0, count);
  const auto others = plugins.targets(count, count);
  const Times cold = apply_and_undo(targets);
  const Times other = apply_and_undo(others);  // the index exists, but nobody asked for these names before

  const auto objects = loaded_objects();
  const auto spans = spans_of(objects, targets);
  const auto other_spans = spans_of(objects, others);
  keep_spans(spans_file(directory, count), spans, objects);

  std::vector<double> applies, undos, pairs, other_pairs, floors, thin_floors;
  auto relative = spans;
  for (Span &span : relative) span.begin -= objects[span.object].base;
  for (int round = 0; round < kRounds; round++) {
    const Times warm = apply_and_undo(targets);
    applies.push_back(warm.apply);
    undos.push_back(warm.undo);
    pairs.push_back(nanoseconds([&] { change_protections(spans); }));
    other_pairs.push_back(nanoseconds([&] { change_protections(other_spans); }));
  }
  for (int round = 0; round < kRounds; round++) {  // apart: these passes push everything else out of the caches
    floors.push_back(nanoseconds([&] { floor(Floor::names, relative); }));
    thin_floors.push_back(nanoseconds([&] { floor(Floor::relocations, relative); }));
  }

  std::vector<Stored> stored;
  const double naive = nanoseconds([&] { stored = naive_apply(objects, targets); });
  naive_undo(stored);
  expect(stored.size() == slots_in(spans), "the naive loop wrote another number of slots than there are");

  verify(plugins, targets, slots_in(spans));
  verify(plugins, others, slots_in(other_spans));

  print("slots", slots_in(spans));
  print("callers", spans.size());
  print("other slots", slots_in(other_spans));
  print("apply cold", cold.apply);
  print("undo first", cold.undo);
  print("apply other", other.apply);
  print("undo other", other.undo);
  print("apply warm", median(applies));
  print("undo warm", median(undos));
  if (spans.front().size > 0) print("pairs", median(pairs));  // else the slots lie in pages that stay writable
  if (other_spans.front().size > 0) print("pairs other", median(other_pairs));
  print("floor warm", median(floors));
  print("thin warm", median(thin_floors));
  print("naive", naive);
}

void measure_floor(const char *name, Floor depth, const std::string &directory, std::size_t count) {
  const auto spans = kept_spans(spans_file(directory, count));
  print(name, nanoseconds([&] { floor(depth, spans); }));
}

// A system call that does nothing but show in a trace.
void mark(std::string_view text) { [[maybe_unused]] auto refused = write(-1, text.data(), text.size()); }

void trace(const Plugins &plugins, std::size_t count) {
  const auto targets = plugins.targets(0, count);
  const auto objects = loaded_objects();
  const auto spans = spans_of(objects, targets);
  std::size_t slots = 0;
  for (const Object &object : objects) object.for_each_slot([&](std::uintptr_t, const char *) { slots++; });
  print("objects", objects.size());
  print("slots", slots);
  for (const Span &span : spans) std::printf("span %#zx %#zx\n", span.begin, span.size);
  std::fflush(stdout);

  for (const char *state : {"cold", "warm"}) {
    const auto before = mallinfo2().uordblks;
    mark(std::string("apply ") + state);
    shunt_change *change = apply(targets);
    mark("done");
    std::printf("heap-%s %zd\n", state, static_cast<ssize_t>(mallinfo2().uordblks - before));
    std::fflush(stdout);
    mark(std::string("undo ") + state);
    undo(change);
    mark("done");
    shunt_change_free(change);
  }
  verify(plugins, targets, slots_in(spans));
}

int run(const std::string &directory, std::string_view task, std::size_t count) {
  const Plugins plugins(directory);
  if (task == "apply")
    measure_apply(directory, plugins, count);
  else if (task == "floor")
    measure_floor("floor cold", Floor::names, directory, count);
  else if (task == "thin")
    measure_floor("thin cold", Floor::relocations, directory, count);
  else if (task == "trace")
    trace(plugins, count);
  else
    return 2;
  return 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char **argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s DIRECTORY apply|floor|thin|trace COUNT\n", argv[0]);
    return 2;
  }
  return bench::run(argv[1], argv[2], std::stoul(argv[3]));
}
