// SPDX-License-Identifier: Apache-2.0
// Points of the shipped models and devices.
#pragma once

#include <string>

#include "planner/explore/cell/point.h"
#include "tests/planner/workload/examples.h"

namespace preserve::test {

// The paper's setting: four devices, int8, batch 4, 16K tokens.
struct PaperPoint {
  ModelConfig model;
  DeviceModel device = example_device("ascend-910b");
  ExplorePoint point{.model = &model,
                     .device = &device,
                     .type = WeightType::int8,
                     .ranks = 4,
                     .batch = 4,
                     .context = 16384,
                     .whole_context = true,
                     .allreduce_ns = 40'000};

  explicit PaperPoint(const std::string& name) : model(example_model(name)) {}
  PaperPoint(const PaperPoint&) = delete;
  PaperPoint& operator=(const PaperPoint&) = delete;
};

}  // namespace preserve::test
