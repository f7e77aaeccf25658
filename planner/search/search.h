// SPDX-License-Identifier: Apache-2.0
// What a flow cannot express, by local search from its optimum: a fixed cost per used window, a
// smallest piece worth a request. And variations of the problem that give other good plans.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "planner/problem/problem.h"
#include "planner/schedule/schedule.h"
#include "planner/search/decompose.h"

namespace preserve {

struct SearchOptions {
  int64_t window_cost_ns = 0;
  int64_t min_prefetch_bytes = 0;
};

// Starts from `optimum` of `problem.flow`; switches windows off while that helps after their fixed
// cost, then drops pieces below the smallest.
Decomposition search_windows(const FoldedStep& step, const PlanProblem& problem,
                             const FlowSolution& optimum, const SearchOptions& options);

// Takes prefetches below `min_prefetch_bytes` out.
void remove_small_pieces(std::vector<PlannedWindow>& windows, int64_t min_prefetch_bytes);

// The same problem with all windows and the cache's room scaled by factors in (0, 1].
PlanProblem scaled_problem(const PlanProblem& problem, double window_factor, double budget_factor);

}  // namespace preserve
