// SPDX-License-Identifier: Apache-2.0
// Cells of preserve-explore per second and core: a model of 80 layers, planned by bfs and flow.
#include <cstdlib>

#include "tests/bench/metric.h"
#include "tests/planner/explore/points.h"

int main() {
  using namespace preserve;
  const ModelConfig model = test::example_model("llama3-70b");
  const DeviceModel device = test::example_device("h100-sxm");
  std::vector<ExplorePoint> points;
  for (const int64_t ranks : {4, 8}) {
    for (const int64_t batch : {1, 4, 16}) {
      for (const int64_t context : {2048, 8192, 32768}) {
        points.push_back({.model = &model,
                          .device = &device,
                          .type = WeightType::fp8,
                          .ranks = ranks,
                          .batch = batch,
                          .context = context});
      }
    }
  }
  std::vector<double> cells_per_s;
  for (int i = 0; i < 11; ++i) {
    bool done = true;
    const double wall_s = bench::seconds_of([&] {
      for (const ExplorePoint& point : points) done = done && evaluate(point).done();
    });
    if (!done) return EXIT_FAILURE;
    cells_per_s.push_back(static_cast<double>(points.size()) / wall_s);
  }
  bench::report_metric("explore", "cells of an 80-layer model, bfs and flow, one core", "cells/s",
                       cells_per_s, "at least 200", median(cells_per_s) >= 200);
}
