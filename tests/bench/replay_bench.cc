// SPDX-License-Identifier: Apache-2.0
// What measuring costs in addition to the measured steps: judging all samples (a bootstrap per
// arm), which happens between passes while every rank waits.
#include <vector>

#include "replay/measure/measure.h"
#include "tests/bench/metric.h"

int main() {
  using namespace preserve;
  const MeasureOptions options;
  const std::vector<std::string> arms{"baseline", "prefetch", "null", "useless", "hot"};
  std::vector<MeasuredSample> samples;
  for (int pair = 0; pair < options.max_pairs; ++pair) {
    const std::vector<size_t> order = pass_order(pair, arms.size());
    for (size_t position = 0; position < order.size(); ++position) {
      const int64_t step_ns =
          6'000'000 + (pair * 7919 + static_cast<int>(position) * 104729) % 90'000;
      samples.push_back(
          {order[position], pair, static_cast<int>(position), {step_ns, false, 1000, 1}, {}});
    }
  }
  std::vector<double> look_ms;
  for (int round = 0; round < 21; ++round) {
    std::vector<ArmResult> results;
    look_ms.push_back(1e3 * bench::seconds_of([&] {
                        discard_samples(samples);
                        results = evaluate(samples, arms, options);
                      }));
    if (results.size() != arms.size()) return 1;
  }
  bench::report_metric("replay", "one look at 400 pairs of 5 arms", "ms", look_ms,
                       "at most 30 ms (a pass takes about 150)", median(look_ms) <= 30);
  return 0;
}
