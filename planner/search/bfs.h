// SPDX-License-Identifier: Apache-2.0
// The paper's Algorithm 1 (PRESERVE, arXiv 2501.08192): from every collective walk the operator
// graph breadth first up to the next collective; insert a prefetch of each matrix product's weight
// and each attention's KV while the sum stays below the cache budget. It considers neither the
// window's length nor the traffic in between. What the paper leaves open: the budget counts anew
// for each window, and the first tensor that does not fit ends the window.
#pragma once

#include "planner/problem/problem.h"
#include "planner/schedule/schedule.h"

namespace preserve {

// Windows in order, each tensor whole. Which bytes may travel is as for `flow`. Never more fetched
// and unread bytes than the budget, all windows together.
std::vector<PlannedWindow> plan_bfs(const FoldedStep& step, const PlanProblem& problem);

}  // namespace preserve
