// SPDX-License-Identifier: Apache-2.0
// How long the step of a model with 80 layers takes to be made from its config and a device file.
#include "planner/schedule/device.h"
#include "planner/workload/workload.h"
#include "tests/bench/metric.h"
#include "tests/support/paths.h"

int main() {
  using namespace preserve;
  const std::string examples = PRESERVE_SOURCE_DIR "/examples/";
  const DeviceModel device = load_device(examples + "devices/h100-sxm.json");
  WorkloadSpec spec{.model = load_model_config(examples + "models/llama3-70b.json"),
                    .ranks = 8,
                    .batch = 8,
                    .context = 8192};
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
