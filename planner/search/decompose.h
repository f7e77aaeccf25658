// SPDX-License-Identifier: Apache-2.0
// From a flow to a plan: takes it apart, first in first out, into blocks per window and consumer.
#pragma once

#include "planner/problem/problem.h"
#include "planner/schedule/schedule.h"
#include "planner/search/amounts.h"

namespace preserve {

struct SolvedProblem {
  PlanProblem problem;
  FlowSolution optimum;  // of problem.flow
};
SolvedProblem solve(PlanProblem problem);

struct Decomposition {
  std::vector<int32_t> windows;         // ordinals of the problem's windows, ascending
  std::vector<int64_t> capacity_bytes;  // what can arrive in each
  Amounts amounts;                      // what each fetches
  // Blocks of the flow that a plan cannot express: they would pass their own window a step later.
  int64_t dropped_blocks = 0;
};

// Checks its result: throws internal_error when windows do not fetch the flow's blocks, a byte is
// fetched twice for one use, a window exceeds its capacity, or what waits its room in the cache.
Decomposition decompose(const FoldedStep& step, const SolvedProblem& solved);

// What one more block of each window would save, and what limits the window: "window", "cache",
// "candidates" or "none"; by window of the problem.
struct WindowPrice {
  double ns_per_mib = 0;
  const char* binds = "none";
};
std::vector<WindowPrice> window_prices(const PlanProblem& problem, const FlowSolution& solution);

// Blocks in the cache, from the operator during which they arrive up to, not including, the one
// that reads them.
struct Holding {
  int32_t from = 0, to = 0;  // ordinals; to <= from: over the end of the step
  int64_t bytes = 0;
};

// Bytes held over each operator of a steady step, and the most of them.
std::vector<int64_t> held_bytes(const std::vector<Holding>& holdings, size_t op_count);
int64_t peak_bytes(const std::vector<Holding>& holdings, size_t op_count);

// Holdings of a plan whose arrival times are unknown: from the window's operator on.
std::vector<Holding> holdings_of(const std::vector<PlannedWindow>& windows);

// Fetch the same blocks in the same windows.
bool fetch_alike(const Decomposition& a, const Decomposition& b);

// Fetch the same bytes in the same windows in the same order.
bool same_prefetches(const std::vector<PlannedWindow>& a, const std::vector<PlannedWindow>& b);

}  // namespace preserve
