// SPDX-License-Identifier: Apache-2.0
// The shortest step that any plan could reach: with every read hot, with an infinite cache, with
// infinite windows. They show what limits a plan: the cache or the windows.
#pragma once

#include "planner/problem/problem.h"

namespace preserve {

struct StepBounds {
  double all_hot_ns = 0;         // every read of every operator hits
  double window_limited_ns = 0;  // infinite cache: only the windows limit
  double cache_limited_ns = 0;   // infinite windows: only the cache limits
};

StepBounds step_bounds(const PlanProblem& problem);

// What one more MiB of budget would save at most, in ns, by the prices of `optimum` of the
// problem's flow.
double cache_price_ns_per_mib(const PlanProblem& problem, const FlowSolution& optimum);

}  // namespace preserve
