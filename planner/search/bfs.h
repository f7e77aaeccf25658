// SPDX-License-Identifier: Apache-2.0
// The paper's Algorithm 1 (PRESERVE, arXiv 2501.08192): from every collective walk the operator
// graph breadth first up to the next collective; insert a prefetch of each matrix product's weight
// and each attention's KV while the sum stays below the cache budget. It knows neither the window's
// length nor what streams by in between. What the paper leaves open is an option.
#pragma once

#include "planner/problem/problem.h"
#include "planner/schedule/schedule.h"

namespace preserve {

struct BfsOptions {
  enum class Scope { window, running };  // budget anew for each collective, or one for the step
  enum class Full { stop, skip };        // first tensor that does not fit ends the search, or not
  Scope scope = Scope::window;
  Full full = Full::stop;
};

// Windows in order, each tensor whole. Which bytes may travel is as for `flow`. Never more fetched
// and unread bytes than the budget, whatever the scope.
std::vector<PlannedWindow> plan_bfs(const FoldedStep& step, const PlanProblem& problem,
                                    const BfsOptions& options);

}  // namespace preserve
