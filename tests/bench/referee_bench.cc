// SPDX-License-Identifier: Apache-2.0
// How long the referee needs to judge a plan, against the number of operators: one stream, and the
// worst case of all operators running at once.
#include <string>
#include <vector>

#include "planner/referee/simulator.h"
#include "tests/bench/metric.h"
#include "tests/planner/tiny_step.h"

namespace preserve {
namespace {

constexpr int kRepetitions = 3;

double judge_ms(int operators, bool overlapping) {
  test::TinyStep tiny;
  for (int i = 0; i < operators; ++i) {
    if (i % 5 == 0) {
      tiny.collective(5'000);
    } else {
      tiny.reader("gemm" + std::to_string(i), 1'000'000, 120'000);
    }
  }
  if (overlapping) {
    for (StepOp& op : tiny->ops) op.dur_ns = tiny->wall_ns;
  }
  Plan plan;
  for (int i = 0; i + 1 < operators; i += 5) test::prefetch(plan, *tiny, i, i + 1, 20'000);
  return 1e3 * bench::seconds_of([&] { simulate(*tiny, test::tiny_device(3'000'000), plan); });
}

void measure(int operators, bool overlapping) {
  std::vector<double> times_ms;
  for (int i = 0; i < kRepetitions; ++i) times_ms.push_back(judge_ms(operators, overlapping));
  bench::report_metric(
      "planner",
      "referee, " + std::to_string(operators) + " operators" + (overlapping ? ", all at once" : ""),
      "ms", times_ms);
}

}  // namespace
}  // namespace preserve

int main() {
  for (const int operators : {1'000, 10'000, 100'000, 1'000'000}) {
    preserve::measure(operators, false);
  }
  preserve::measure(100'000, true);
}
