// SPDX-License-Identifier: Apache-2.0
// How long preserve-report takes, from start to exit, as a user waits for it, a schedule and its
// replay included: the page of 100,000 operators, in many steps and in one, all four formats of a
// million.
#include <cstdio>
#include <string>
#include <vector>

#include "tests/bench/metric.h"
#include "tests/reports/scenario_files.h"
#include "tests/support/paths.h"
#include "tests/support/synthetic_trace.h"

namespace {

using namespace preserve;

struct Size {
  const char* what;
  int ranks, layers, steps;  // 9 operators a layer, and 3
  std::vector<std::string> outputs;
  double most_s;
};

// False when the tool fails.
bool measure(const Size& size) {
  constexpr int kRepetitions = 7;
  test::TemporaryDirectory directory;
  test::write_synthetic_trace(directory / "trace.db",
                              {.ranks = size.ranks, .layers = size.layers, .steps = size.steps});
  const auto operators =
      TraceDb::open(directory / "trace.db").query_integer("SELECT COUNT(*) FROM op").value_or(0);
  std::fprintf(stderr, "wrote a recording of %lld operators\n", static_cast<long long>(operators));
  test::write_schedule(directory / "schedule.json", test::make_schedule(directory / "trace.db"));
  test::write_replay(directory / "replay.db", directory / "schedule.json");
  std::vector<std::string> command{
      PRESERVE_BIN_DIR "/preserve-report", "trace.db", "schedule.json", "replay.db", "-q", "-f"};
  for (const std::string& output : size.outputs) command.insert(command.end(), {"-o", output});
  std::vector<double> seconds;
  for (int i = 0; i < kRepetitions; ++i) {
    test::Run run;
    seconds.push_back(
        bench::seconds_of([&] { run = test::run_program(command, {}, directory.path()); }));
    if (run.exit_code != 0) {
      std::fprintf(stderr, "%s", run.err.c_str());
      return false;
    }
  }
  bench::report_metric("report", fmt::format("{} of {} operators", size.what, operators), "s",
                       seconds, fmt::format("at most {:g} s", size.most_s),
                       median(seconds) <= size.most_s);
  return true;
}

}  // namespace

int main() {
  const Size page{"page", 2, 32, 172, {"r.html"}, 1},
      step{"page of one step", 1, 11111, 1, {"r.html"}, 1},
      all{"report", 2, 32, 1720, {"r.html", "r.json", "r.md", "r.csv"}, 3};
  return measure(page) && measure(step) && measure(all) ? 0 : 1;
}
