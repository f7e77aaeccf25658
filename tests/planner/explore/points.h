// SPDX-License-Identifier: Apache-2.0
// Points of the shipped models and devices.
#pragma once

#include <filesystem>
#include <string>

#include "planner/explore/cell/point.h"
#include "tests/support/paths.h"

namespace preserve::test {

inline ModelConfig example_model(const std::string& name) {
  return load_model_config(std::filesystem::path(PRESERVE_SOURCE_DIR) / "examples/models" /
                           (name + ".json"));
}

inline DeviceModel example_device(const std::string& name) {
  return load_device(std::filesystem::path(PRESERVE_SOURCE_DIR) / "examples/devices" /
                     (name + ".json"));
}

// The paper's setting: four devices, int8, batch 4, 16K tokens.
struct PaperPoint {
  ModelConfig model;
  DeviceModel device = example_device("ascend-910b");
  ExplorePoint point;

  explicit PaperPoint(const std::string& name) : model(example_model(name)) {
    point.model = &model;
    point.device = &device;
    point.type = WeightType::int8;
    point.ranks = 4;
    point.batch = 4;
    point.context = 16384;
    point.whole_context = true;
    point.allreduce_ns = 40'000;
  }
  PaperPoint(const PaperPoint&) = delete;
  PaperPoint& operator=(const PaperPoint&) = delete;
};

}  // namespace preserve::test
