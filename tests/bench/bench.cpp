// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// bench.cpp: plan, apply and undo beside their floor, as a table.
//
//   bench PROCESS OBJECTS [Google Benchmark's options]
//
// PROCESS is bench-process, OBJECTS the folder that holds the generated ones. To Google Benchmark each set of generated
// objects is one benchmark, a run of it is one sample of everything (its counters, in nanoseconds), and the runs are its
// repetitions. So all that is compared is measured in turn, whatever else the machine does meanwhile. What is cold needs a
// process of its own for every sample; what is warm is the median of several rounds inside one process.
//
// Time is never a reason to fail; a redirect that does not do what it should is.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using benchmark::BenchmarkReporter;

// ---- one sample ----------------------------------------------------------------------------------------------------

constexpr const char *kCounts[] = {"100", "1"};  // functions that are redirected at once

std::string quoted(const std::string &word) {
  std::string quoted = "'";
  for (char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// Runs PROCESS and adds what it measured to the counters, as COUNT/NAME.
void run_process(const std::string &process, const std::string &objects, const std::string &task,
                 const std::string &count, benchmark::UserCounters &counters) {
  const std::string command = quoted(process) + ' ' + quoted(objects) + ' ' + task + ' ' + count;
  std::FILE *output = popen(command.c_str(), "r");
  if (!output) throw std::runtime_error(command + ": cannot be started");
  char name[64];
  double value;
  while (std::fscanf(output, " %63[a-z ] %lf", name, &value) == 2) {
    std::string key = name;
    key.erase(key.find_last_not_of(' ') + 1);
    counters[count + '/' + key] = value;
  }
  if (pclose(output) != 0) throw std::runtime_error(command + ": failed");
}

void measure(benchmark::State &state, const std::string &process, const std::string &objects) {
  for (auto _ : state) try {
      for (const char *count : kCounts)
        for (const char *task : {"apply", "floor", "thin"}) run_process(process, objects, task, count, state.counters);
      state.SetIterationTime(state.counters["100/apply cold"] * 1e-9);
    } catch (const std::runtime_error &failed) {
      state.SkipWithError(failed.what());
    }
}

// ---- the table -----------------------------------------------------------------------------------------------------

enum class Goal { none, at_most, at_least };

// What is measured, what it is divided by (median by median), and what the quotient should be. The goals are for the
// largest set of full RELRO and for 100 functions.
struct Row {
  const char *label;
  const char *counter;
  const char *beside = nullptr;
  Goal goal = Goal::none;
  double limit = 0;
};

constexpr Row kRows[] = {
    {"floor, cold: every relocation and name, pairs", "floor cold"},
    {"floor, cold, without names", "thin cold"},
    {"apply, cold: the first of the process", "apply cold", "floor cold", Goal::at_most, 1.5},
    {"protection pairs alone", "pairs"},
    {"undo, first", "undo first", "pairs", Goal::at_most, 1.4},
    {"apply, warm", "apply warm", "pairs", Goal::at_most, 1.4},
    {"undo, warm", "undo warm", "pairs", Goal::at_most, 1.4},
    {"protection pairs alone, other functions", "pairs other"},
    {"apply, other functions, index warm", "apply other", "pairs other"},
    {"undo, other functions", "undo other", "pairs other"},
    {"floor, warm", "floor warm"},
    {"floor, warm, without names", "thin warm"},
    {"naive loop, handles kept open", "naive", "apply warm", Goal::at_least, 100},
};
constexpr const char *kGoalsFor = "relro/300x500";

class Table : public BenchmarkReporter {
 public:
  bool failed = false;

  bool ReportContext(const Context &) override { return true; }

  void ReportRuns(const std::vector<Run> &runs) override {
    std::map<std::string, benchmark::UserCounters> aggregates;
    for (const Run &run : runs) {
      if (run.error_occurred) {
        failed = true;
        std::printf("\n%s: %s\n", run.run_name.function_name.c_str(), run.error_message.c_str());
        return;
      } else if (run.run_type == Run::RT_Aggregate) {
        aggregates[run.aggregate_name] = run.counters;
      }
    }
    if (aggregates.empty()) return;
    for (const char *count : kCounts)
      print(runs.front().run_name.function_name, runs.front().repetitions, count, aggregates["median"],
            aggregates["minimum"]);
    std::fflush(stdout);
  }

 private:
  static void print(const std::string &objects, std::int64_t samples, const std::string &count,
                    benchmark::UserCounters &median, benchmark::UserCounters &minimum) {
    const auto slots = [&](const char *of) { return median[count + '/' + of].value; };
    std::printf("\n%s, %s function%s everywhere: %.0f slots in %.0f objects (others: %.0f slots), %lld samples\n",
                objects.c_str(), count.c_str(), count == "1" ? "" : "s", slots("slots"), slots("callers"),
                slots("other slots"), static_cast<long long>(samples));
    std::printf("  %-46s %12s %12s  %s\n", "", "median", "minimum", "ratio");
    for (const Row &row : kRows) {
      const double time = median[count + '/' + row.counter];
      const double beside = row.beside ? median[count + '/' + row.beside].value : 0;
      if (time == 0) continue;  // there are no protection pairs where slots stay writable
      std::printf("  %-46s %9.1f us %9.1f us", row.label, time / 1e3, minimum[count + '/' + row.counter] / 1e3);
      if (beside > 0) {
        const double ratio = time / beside;
        std::printf("  %7.2f of '%s'", ratio, row.beside);
        if (row.goal != Goal::none && objects == kGoalsFor && count == "100")
          std::printf(", goal %s %g: %s", row.goal == Goal::at_most ? "<=" : ">=", row.limit,
                      (row.goal == Goal::at_most ? ratio <= row.limit : ratio >= row.limit) ? "met" : "NOT MET");
      }
      std::printf("\n");
    }
  }
};

double minimum(const std::vector<double> &samples) { return *std::ranges::min_element(samples); }

}  // namespace

int main(int argc, char **argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s PROCESS OBJECTS [Google Benchmark's options]\n", argv[0]);
    return 2;
  }
  const std::string process = argv[1], folder = argv[2];

  std::string repetitions = "--benchmark_repetitions=15";  // an option given by the user comes later and wins
  std::vector<char *> options{argv[0], repetitions.data()};
  options.insert(options.end(), argv + 3, argv + argc);
  int count = static_cast<int>(options.size());
  benchmark::Initialize(&count, options.data());
  if (benchmark::ReportUnrecognizedArguments(count, options.data())) return 2;

  for (const char *size : {"10x100", "100x200", "300x500"})
    for (const char *mode : {"lazy", "relro", "noplt"}) {
      const std::string objects = folder + "/objects-" + size + '-' + mode;
      if (std::filesystem::exists(objects + ".stamp"))
        benchmark::RegisterBenchmark((std::string(mode) + '/' + size).c_str(), measure, process, objects)
            ->Iterations(1)
            ->UseManualTime()
            ->Unit(benchmark::kMicrosecond)
            ->ComputeStatistics("minimum", minimum);
    }
  Table table;
  const bool measured = benchmark::RunSpecifiedBenchmarks(&table) > 0;
  if (!measured)
    std::fprintf(stderr, "bench: no generated objects in %s (ninja bench-objects makes them)\n", folder.c_str());
  return table.failed || !measured;
}
