// SPDX-License-Identifier: Apache-2.0
// One point of a sweep: a decode step of a model on a device, either changed as the point says,
// planned by both strategies and judged by the referee. No files, no second model: the generator,
// the planner and the referee are those of preserve-tune.
#pragma once

#include <cstdint>
#include <optional>

#include "db/explore/cells.h"
#include "planner/explore/cell/area.h"
#include "planner/schedule/device.h"
#include "planner/workload/model/config.h"

namespace preserve {

struct ExplorePoint {
  const ModelConfig* model = nullptr;
  const DeviceModel* device = nullptr;
  const AreaModel* area = nullptr;  // nullptr: no area, no cost
  std::optional<WeightType> type{};
  int64_t ranks = 1, batch = 1, context = 4096;
  bool search = false;         // flow as preserve-tune plans it, all layers; else flow_plan.h
  bool whole_context = false;  // attention reads all of it, also where the model has a window
  // Instead of the model's or the device's; hardware.h has the rules.
  std::optional<int64_t> kv_heads{}, cache_bytes{}, memory_bytes{};
  std::optional<double> memory_bandwidth_bytes_per_s{}, arithmetic_factor{};
  std::optional<int64_t> allreduce_ns{};
  std::optional<double> network_latency_ns{}, network_bandwidth_bytes_per_s{};
};

// Fewest layers that are planned. The referee's time of a layer in the middle of so many is that of
// one in the middle of all: tests/planner/explore compares them.
inline constexpr int64_t kFewestLayers = 8;

// The cell of a point, its id still 0. What cannot be run is status not_available; anything else
// that the libraries refuse is status failed. `fewest_layers`: a model with many equal layers is
// planned with no fewer, and its step is that of these and, for the others, of one in the middle.
ExploreCell evaluate(const ExplorePoint& point, int64_t fewest_layers = kFewestLayers);

}  // namespace preserve
