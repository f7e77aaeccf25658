// SPDX-License-Identifier: Apache-2.0
// Wall time of the whole preserve-tune process, from start to the finished schedule.json, on a
// recording of the demo's size: about 100 operators, 64 steps, 2 ranks.
#include <cstdlib>
#include <fstream>

#include "planner/schedule/device.h"
#include "tests/bench/metric.h"
#include "tests/planner/synthetic_step.h"
#include "tests/support/paths.h"
#include "tests/support/synthetic_trace.h"

int main() {
  using namespace preserve;
  const test::TemporaryDirectory directory;
  test::SyntheticTrace spec;
  spec.layers = 11;  // 9 operators each
  spec.steps = 64;
  spec.allreduce_ns = 60'000;
  test::write_synthetic_trace(directory / "trace.db", spec);
  std::ofstream(directory / "device.json") << to_json(test::random_device(1));
  std::vector<double> wall_ms;
  for (int i = 0; i < 21; ++i) {
    test::Run run;
    wall_ms.push_back(1e3 * bench::seconds_of([&] {
                        run = test::run_program({PRESERVE_BIN_DIR "/preserve-tune", "trace.db",
                                                 "--device", "device.json", "-f", "-q"},
                                                {}, directory.path());
                      }));
    if (run.exit_code != 0) {
      std::fprintf(stderr, "%s", run.err.c_str());
      return EXIT_FAILURE;
    }
  }
  bench::report_metric("planner", "preserve-tune on a demo-size trace", "ms", wall_ms,
                       "under 100 ms", median(wall_ms) < 100);
}
