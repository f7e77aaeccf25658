// SPDX-License-Identifier: Apache-2.0
// Where prefetches can be issued and when their bytes arrive: during collectives and idle
// stretches, and, for a stream that outlasts its window, during the operators after it, at a cost
// to them.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/problem/problem.h"

namespace preserve {

// Blocks that a window's stream brings while one operator runs.
struct Arrival {
  int32_t op = 0, window_op = 0;  // ordinals
  int64_t blocks = 0;
  double cost_ns = 0;  // per byte; ascending along each window's stream
};

struct WindowSupplies {
  std::vector<Window> windows;    // by ordinal, without their place in the flow
  std::vector<Arrival> arrivals;  // by operator; each window has one for its own, perhaps empty
};

// `hot_bytes_per_s`: rate of reading what was prefetched.
WindowSupplies find_windows(const FoldedStep& step, const DeviceModel& device,
                            const PrefetchMethod& method, double hot_bytes_per_s,
                            const ProblemOptions& options, const AssumedPlan& assumed);

}  // namespace preserve
