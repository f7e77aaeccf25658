// SPDX-License-Identifier: Apache-2.0
// How far any plan could get: with every read hot, with an infinite cache, with infinite windows.
// A prediction between its bound and the baseline says what to buy: cache, or a longer window.
#pragma once

#include "planner/problem/problem.h"

namespace preserve {

struct StepBounds {
  double all_hot_ns = 0;         // every read of every operator hits
  double window_limited_ns = 0;  // infinite cache: only the windows limit
  double cache_limited_ns = 0;   // infinite windows: only the cache limits
};

StepBounds step_bounds(const PlanProblem& problem);

}  // namespace preserve
