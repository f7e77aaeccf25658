// SPDX-License-Identifier: Apache-2.0
#include "planner/problem/bounds.h"

#include <algorithm>

namespace preserve {

namespace {

// With an infinite cache every supply reaches every demand, so the cheapest supplies serve the most
// profitable demands: sorting is the whole solution.
int64_t profit_without_edges(FlowProblem flow) {
  std::sort(flow.supplies.begin(), flow.supplies.end(),
            [](const FlowSupply& a, const FlowSupply& b) { return a.cost < b.cost; });
  std::sort(flow.demands.begin(), flow.demands.end(),
            [](const FlowDemand& a, const FlowDemand& b) { return a.profit > b.profit; });
  int64_t profit = 0;
  auto supply = flow.supplies.begin();
  auto demand = flow.demands.begin();
  while (supply != flow.supplies.end() && demand != flow.demands.end() &&
         demand->profit > supply->cost) {
    const int64_t blocks = std::min(supply->capacity, demand->capacity);
    profit += blocks * (demand->profit - supply->cost);
    supply->capacity -= blocks;
    demand->capacity -= blocks;
    if (supply->capacity == 0) ++supply;
    if (demand->capacity == 0) ++demand;
  }
  return profit;
}

}  // namespace

StepBounds step_bounds(const PlanProblem& problem) {
  FlowProblem long_windows = problem.flow;
  int64_t demand = 0;
  for (const FlowDemand& item : long_windows.demands) demand += item.capacity;
  for (FlowSupply& item : long_windows.supplies) item.capacity = demand;
  const auto step_after = [&problem](int64_t profit) {
    return std::max(problem.baseline_step_ns - price_to_ns(profit), problem.all_hot_step_ns);
  };
  return {problem.all_hot_step_ns, step_after(profit_without_edges(problem.flow)),
          step_after(solve_flow(long_windows).profit)};
}

// One more block of budget widens every edge that has any room or is just full.
double cache_price_ns_per_mib(const PlanProblem& problem, const FlowSolution& optimum) {
  constexpr double kMiB = 1024.0 * 1024.0;
  double price_ns = 0;
  const size_t nodes = problem.flow.hold.size();
  for (size_t edge = 0; edge < nodes; ++edge) {
    if (problem.edge_traffic_bytes[edge] > problem.budget_bytes) continue;
    const int64_t rise = optimum.price[(edge + 1) % nodes] - optimum.price[edge];
    price_ns += price_to_ns(std::max<int64_t>(0, rise));
  }
  return price_ns * kMiB / static_cast<double>(kBlockBytes);
}

}  // namespace preserve
