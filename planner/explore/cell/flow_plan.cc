// SPDX-License-Identifier: Apache-2.0
#include "planner/explore/cell/flow_plan.h"

#include <algorithm>

#include "common/as_index.h"
#include "planner/search/decompose.h"
#include "planner/search/search.h"

namespace preserve {
namespace {

constexpr int kMostReplans = 3;

std::vector<PlannedWindow> optimum_of(const FoldedStep& step, const PlanProblem& problem) {
  return decompose(step, problem, solve_flow(problem.flow)).windows;
}

AssumedPlan assume(const FoldedStep& step, const std::vector<PlannedWindow>& windows) {
  AssumedPlan assumed;
  assumed.hit_bytes.assign(step.ops.size(), 0);
  for (const PlannedWindow& window : windows) {
    for (const PlannedPrefetch& prefetch : window.prefetches) {
      assumed.hit_bytes[as_index(prefetch.consumer_ordinal)] += prefetch.length_bytes;
    }
  }
  return assumed;
}

std::vector<int32_t> ordinals_of(const PlanProblem& problem,
                                 const std::vector<std::vector<PlannedWindow>>& plans) {
  std::vector<int32_t> ordinals;
  for (const Window& window : problem.windows) ordinals.push_back(window.ordinal);
  for (const std::vector<PlannedWindow>& plan : plans) {
    for (const PlannedWindow& window : plan) ordinals.push_back(window.ordinal);
  }
  std::sort(ordinals.begin(), ordinals.end());
  ordinals.erase(std::unique(ordinals.begin(), ordinals.end()), ordinals.end());
  return ordinals;
}

}  // namespace

std::vector<PlannedWindow> flow_windows(const FoldedStep& step, const DeviceModel& device,
                                        const PlanOptions& options, const PlanProblem& problem,
                                        Referee& referee) {
  std::vector<std::vector<PlannedWindow>> plans{optimum_of(step, problem)};
  for (int i = 0; i < kMostReplans; ++i) {
    const PlanProblem given =
        build_problem_given(step, device, options.problem, assume(step, plans.back()));
    std::vector<PlannedWindow> windows = optimum_of(step, given);
    if (same_prefetches(windows, plans.back())) break;
    plans.push_back(std::move(windows));
  }
  const WindowRing ring(step, problem, ordinals_of(problem, plans));
  PlanSearch search(referee, ring,
                    {problem.budget_bytes, device.window_cost_ns, options.min_prefetch_bytes});
  SearchResult best;
  for (const std::vector<PlannedWindow>& plan : plans) {
    SearchResult judged = search.judge(ring.amounts_of(plan));
    if (best.amounts.empty() || judged.step_ns < best.step_ns) best = std::move(judged);
  }
  return ring.planned_windows(best.amounts);
}

}  // namespace preserve
