// SPDX-License-Identifier: Apache-2.0
// The shortest step that any plan could reach under the referee, with one of its limits kept and
// the others taken away. They show what limits a plan, and how much a better one could still gain.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/problem/problem.h"
#include "planner/referee/simulator.h"

namespace preserve {

struct StepBounds {
  double all_hot_ns = 0;         // every read of every operator hits
  double window_limited_ns = 0;  // a cache without limit: only the stream and the memory limit
  double cache_limited_ns = 0;   // a stream without limit: only the budget does
};

// `windows`: ordinals of the operators at which a plan may issue prefetches, ascending.
StepBounds step_bounds(const FoldedStep& step, const DeviceModel& device,
                       const PlanProblem& problem, const Referee& referee,
                       const std::vector<int32_t>& windows);

// What one more MiB of cache would save at most, in ns, by the prices of `optimum` of the
// problem's flow.
double cache_price_ns_per_mib(const PlanProblem& problem, const FlowSolution& optimum);

}  // namespace preserve
