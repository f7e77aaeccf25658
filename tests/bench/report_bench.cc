// SPDX-License-Identifier: Apache-2.0
// How long preserve-report takes for a recording of a million operators, from start to exit, as a
// user waits for it: all four formats, a schedule and its replay included.
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <vector>

#include "common/error.h"
#include "tests/bench/metric.h"
#include "tests/reports/scenario_files.h"
#include "tests/support/paths.h"
#include "tests/support/synthetic_trace.h"

int main() {
  using namespace preserve;
  // 32 layers are 291 operators a step; 2 ranks x 1720 steps make a million.
  constexpr int kSteps = 1720, kRepetitions = 7;
  test::TemporaryDirectory directory;
  std::fprintf(stderr, "writing a recording of a million operators\n");
  test::write_synthetic_trace(directory / "trace.db", {.ranks = 2, .layers = 32, .steps = kSteps});
  const auto operators =
      TraceDb::open(directory / "trace.db").query_integer("SELECT COUNT(*) FROM op").value_or(0);
  test::write_schedule(directory / "schedule.json", test::make_schedule(directory / "trace.db"));
  test::write_replay(directory / "replay.db", directory / "schedule.json");
  std::vector<double> seconds;
  for (int i = 0; i < kRepetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const test::Run run = test::run_program(
        {PRESERVE_BIN_DIR "/preserve-report", "trace.db", "schedule.json", "replay.db", "-q", "-f",
         "-o", "r.html", "-o", "r.json", "-o", "r.md", "-o", "r.csv"},
        {}, directory.path());
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    if (run.exit_code != 0) {
      std::fprintf(stderr, "%s", run.err.c_str());
      return 1;
    }
  }
  bench::report_metric("report", fmt::format("report of {} operators", operators), "s", seconds,
                       "at most 3 s", median(seconds) <= 3);
}
