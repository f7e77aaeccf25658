// SPDX-License-Identifier: Apache-2.0
#include "planner/explore/cell/flow_plan.h"

#include <utility>

#include "planner/search/search.h"
#include "planner/search/starts.h"

namespace preserve {

std::vector<PlannedWindow> flow_windows(const FoldedStep& step, const DeviceModel& device,
                                        const PlanOptions& options, const SolvedProblem& recorded,
                                        Referee& referee) {
  std::vector<Decomposition> plans = flow_plans(step, device, options.problem, recorded);
  const WindowRing ring(step, recorded.problem, windows_of(plans));
  PlanSearch search(
      referee, ring,
      {recorded.problem.budget_bytes, device.window_cost_ns, options.min_prefetch_bytes});
  SearchResult best;
  for (Decomposition& plan : plans) {
    SearchResult judged = search.judge(ring.placed(plan.windows, std::move(plan.amounts)));
    if (best.amounts.empty() || is_shorter(judged, best)) best = std::move(judged);
  }
  return ring.planned_windows(best.amounts);
}

}  // namespace preserve
