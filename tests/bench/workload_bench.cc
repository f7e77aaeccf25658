// SPDX-License-Identifier: Apache-2.0
// How long the step of a model with 80 layers takes to be made from its config and a device file.
#include "tests/bench/metric.h"
#include "tests/planner/workload/examples.h"

int main() {
  using namespace preserve;
  const DeviceModel device = test::example_device("h100-sxm");
  const WorkloadSpec spec{
      .model = test::example_model("llama3-70b"), .ranks = 8, .batch = 8, .context = 8192};
  std::vector<double> wall_ms;
  size_t operators = 0;
  for (int i = 0; i < 101; ++i) {
    wall_ms.push_back(1e3 * bench::seconds_of([&] {
                        operators += generate_workload(spec, device).step.ops.size();
                      }));
  }
  if (operators == 0) return 1;
  bench::report_metric("planner", "step of llama3-70b (80 layers) from its config", "ms", wall_ms,
                       "at most 5 ms", median(wall_ms) <= 5);
}
