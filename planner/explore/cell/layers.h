// SPDX-License-Identifier: Apache-2.0
// The layers of a model repeat, so a step with a few of them tells the time of all: what stands at
// both ends of the step stays, and a stretch of whole periods in between is counted as often as
// layers were left out.
#pragma once

#include <cstdint>

#include "planner/workload/model/config.h"

namespace preserve {

struct LayerCycle {
  int64_t head = 0;    // layers before the repetition
  int64_t period = 1;  // layers of one repetition; all of them where nothing repeats
};
LayerCycle find_cycle(const std::vector<LayerShape>& layers);

struct KeptLayers {
  int64_t kept = 0;      // at least one period before the last one
  int64_t left_out = 0;  // a multiple of the period
};
// All of them where fewer than `fewest`, in whole periods and at least four, would not do.
KeptLayers keep_layers(int64_t layers, const LayerCycle& cycle, int64_t fewest);

}  // namespace preserve
